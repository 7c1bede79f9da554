"""fp16 and int8 as graph transforms: what they give, where they stop, what they refuse."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.devices.probes import half_network, quantised_network
from pipeline.graphs.precision import activations_for, make
from profiles.target import Target
from runtimes import base
from runtimes.errors import InputError
from runtimes.inputs import given
from runtimes.onnx_file import sha256


def images(count=8, size=12, seed=0):
    noise = np.random.default_rng(seed).standard_normal((count, 3, size, size))
    return {"image": noise.astype(np.float32)}


def outputs(path, arrays, runtime="ort"):
    session = base.make(runtime, "cpu").load(path, threads=1, inputs=given(arrays))
    session.run()
    return next(iter(session.outputs().values()))


def nodes(path, *kinds):
    return [node for node in onnx.load(path).graph.node if node.op_type in kinds]


def constants(path):
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


@pytest.fixture
def network(make_network):
    return make_network(convolutions=3, batch="n")


@pytest.mark.parametrize("runtime", ["ort", "ov"])
def test_fp16_is_the_same_function_to_half_precision(network, tmp_path, runtime):
    made = make(network, "fp16", tmp_path / "half.onnx")

    found = outputs(made.artifact.path, images(3), runtime)

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, outputs(network, images(3), runtime), rtol=2e-2, atol=2e-3)


def test_an_artifact_knows_its_precision_and_its_parent(network, tmp_path):
    half = make(network, "fp16", tmp_path / "half.onnx").artifact
    quantised = make(network, "int8", tmp_path / "int8.onnx", calibration=images()).artifact

    assert (half.precision, quantised.precision) == ("fp16", "int8")
    assert half.parent == quantised.parent == sha256(network)
    assert half.sha256 == sha256(tmp_path / "half.onnx")


def test_weights_are_half_as_large_in_fp16(network, tmp_path):
    made = make(network, "fp16", tmp_path / "half.onnx")

    kinds = {array.dtype for array in constants(made.artifact.path).values()}

    assert kinds == {np.dtype(np.float16)}


def test_operators_that_stay_fp32_are_counted_and_get_fp32(tmp_path, make_network):
    network = make_network()
    model = onnx.load(network)
    model.graph.node.append(helper.make_node("Softmax", ["pooled"], ["shares"], name="softmax"))
    model.graph.output[0].name = "shares"
    onnx.save(model, network)

    made = make(network, "fp16", tmp_path / "half.onnx")

    assert made.kept_fp32 == {"Softmax": 1}
    (softmax,) = nodes(made.artifact.path, "Softmax")
    (cast,) = [n for n in nodes(made.artifact.path, "Cast") if softmax.input[0] in n.output]
    assert cast.attribute[0].i == TensorProto.FLOAT


def test_a_weight_beyond_fp16_is_refused_by_name(network, tmp_path):
    model = onnx.load(network)
    weight = numpy_helper.to_array(model.graph.initializer[1]) * 1e6
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(weight, "weight1"))
    onnx.save(model, network)

    with pytest.raises(InputError, match=r"'weight1' goes up to .* fp16 ends at 65504"):
        make(network, "fp16", tmp_path / "half.onnx")


@pytest.mark.parametrize("activations", ["uint8", "int8"])
@pytest.mark.parametrize("runtime", ["ort", "ov"])
def test_int8_is_close_to_fp32_on_data_like_those_calibrated_on(
    network, tmp_path, activations, runtime
):
    made = make(
        network, "int8", tmp_path / "q.onnx", calibration=images(64), activations=activations
    )

    found, expected = (
        outputs(path, images(16, seed=1), runtime) for path in (made.artifact.path, network)
    )

    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    assert not np.array_equal(found, expected)


def test_weights_are_quantised_per_channel_and_symmetrically(network, tmp_path):
    made = make(network, "int8", tmp_path / "q.onnx", calibration=images())

    stored = constants(made.artifact.path)

    assert stored["weight1_scale"].shape == (8,)
    assert not stored["weight1_zero_point"].any()
    assert stored["weight1_quantized"].dtype == np.int8


def test_weights_beside_unsigned_activations_take_seven_bits(network, tmp_path):
    unsigned = make(network, "int8", tmp_path / "u.onnx", calibration=images())
    signed = make(
        network, "int8", tmp_path / "s.onnx", calibration=images(), activations="int8"
    )  # fmt: skip

    largest = [
        int(np.abs(constants(made.artifact.path)["weight1_quantized"].astype(int)).max())
        for made in (unsigned, signed)
    ]

    assert largest == [64, 127]


def test_tensorrt_gets_signed_activations_around_zero_and_a_bias_in_fp32(tmp_path, network):
    model = onnx.load(network)
    bias = np.ones(8, np.float32)
    model.graph.initializer.append(numpy_helper.from_array(bias, "bias"))
    model.graph.node[0].input.append("bias")
    onnx.save(model, network)

    made = make(network, "int8", tmp_path / "q.onnx", calibration=images(), activations="int8")

    stored = constants(made.artifact.path)
    zeros = [stored[n.input[2]] for n in nodes(made.artifact.path, "QuantizeLinear")]
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zeros)
    assert stored["bias"].dtype == np.float32
    first = nodes(made.artifact.path, "Conv")[0].output[0]
    assert [n.input[0] for n in nodes(made.artifact.path, "Relu")].count(first) == 1


def test_every_operator_with_weights_runs_in_eight_bits_on_a_cpu(network, tmp_path):
    made = make(network, "int8", tmp_path / "q.onnx", calibration=images())
    session = base.make("ort", "cpu").load(
        made.artifact.path, threads=1, inputs=given(images(1)), layers=True
    )

    session.run()

    kinds = [layer.kind for layer in session.layers()]
    assert kinds.count("QLinearConv") == 3
    assert "Conv" not in kinds


def test_ranges_come_from_the_data_given(network, tmp_path):
    scales = []
    for factor in (1, 10):
        data = {"image": images()["image"] * factor}
        made = make(network, "int8", tmp_path / f"{factor}.onnx", calibration=data)
        scales.append(float(constants(made.artifact.path)["image_scale"]))

    assert scales[1] == pytest.approx(10 * scales[0], rel=1e-3)


def test_a_fixed_batch_is_calibrated_batch_by_batch(make_network, tmp_path):
    network = make_network(batch=4)

    made = make(network, "int8", tmp_path / "q.onnx", calibration=images(8))

    assert outputs(made.artifact.path, images(4)).shape == (4, 8, 1, 1)
    with pytest.raises(InputError, match="fixed batch of 4, and there are 3"):
        make(network, "int8", tmp_path / "q.onnx", calibration=images(3))


@pytest.mark.parametrize(
    ("calibration", "reason"),
    [
        (None, "needs calibration data: samples of 'image'"),
        ({"picture": np.zeros((2, 3, 12, 12), np.float32)}, "are for picture; .* takes image"),
        ({"image": np.zeros((2, 3, 12, 13), np.float32)}, "takes float32"),
        ({"image": np.zeros((2, 3, 12, 12))}, "are float64"),
        ({"image": np.zeros((0, 3, 12, 12), np.float32)}, "at least one"),
        ({"image": np.full((2, 3, 12, 12), np.nan, np.float32)}, "NaN or infinity"),
    ],
)
def test_calibration_data_that_do_not_fit_are_refused(network, tmp_path, calibration, reason):
    with pytest.raises(InputError, match=reason):
        make(network, "int8", tmp_path / "q.onnx", calibration=calibration)

    assert [path.name for path in tmp_path.iterdir()] == ["network.onnx"]


def test_a_network_without_weights_is_not_called_int8(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Relu", ["image"], ["y"], name="relu")],
        "rectifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, tmp_path / "relu.onnx")
    data = {"image": np.ones((4, 3), np.float32)}

    with pytest.raises(InputError, match="nothing to quantise"):
        make(tmp_path / "relu.onnx", "int8", tmp_path / "q.onnx", calibration=data)
    with pytest.raises(InputError, match="no weights that fp16 could hold"):
        make(tmp_path / "relu.onnx", "fp16", tmp_path / "h.onnx")


@pytest.mark.parametrize(
    ("variant", "is_now"), [(half_network, "fp16"), (quantised_network, "int8")]
)
def test_only_fp32_is_a_source(tmp_path, variant, is_now):
    path = variant(tmp_path / "network.onnx")

    with pytest.raises(InputError, match=f"is {is_now}, and fp16 is made of an fp32 network"):
        make(path, "fp16", tmp_path / "half.onnx")


@pytest.mark.parametrize(
    ("targets", "forms"),
    [
        ([Target("a", "ort"), Target("b", "ov")], ("uint8",)),
        ([Target("a", "trt", device="gpu")], ("int8",)),
        ([Target("a", "ort", device="tensorrt:0")], ("int8",)),
        ([Target("a", "ort"), Target("b", "trt", device="gpu")], ("uint8", "int8")),
    ],
)
def test_the_form_of_int8_follows_the_targets(targets, forms):
    assert activations_for(targets) == forms
