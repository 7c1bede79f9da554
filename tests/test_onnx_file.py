import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtimes.errors import InputError
from runtimes.onnx_file import one_node_model, read_declared


def test_declared_inputs_leave_out_the_weights(make_network):
    declared = read_declared(make_network(batch="n"))

    (image,) = declared.inputs
    assert (image.name, image.dtype, image.shape) == ("image", "float32", ("n", 3, 12, 12))


def test_operators_come_in_file_order(make_network):
    declared = read_declared(make_network(convolutions=1))

    assert declared.operators == (
        ("conv0", "Conv"),
        ("relu0", "Relu"),
        ("pool", "GlobalAveragePool"),
    )


@pytest.mark.parametrize(
    ("dtype", "precision"), [(np.float32, "fp32"), (np.float16, "fp16"), (np.float64, "fp64")]
)
def test_precision_is_read_from_the_weights(tmp_path, dtype, precision):
    weight = numpy_helper.from_array(np.ones(4, dtype), "w")
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    ports = [helper.make_tensor_value_info(name, code, [4]) for name in "xy"]
    node = helper.make_node("Add", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", ports[:1], ports[1:], [weight])
    onnx.save(helper.make_model(graph), tmp_path / "add.onnx")

    assert read_declared(tmp_path / "add.onnx").precision == precision


def test_a_quantised_graph_is_int8(tmp_path):
    scale = numpy_helper.from_array(np.array(0.1, np.float32), "s")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"]
    onnx.save(
        helper.make_model(helper.make_graph(nodes, "g", ports[:1], ports[1:], [scale])),
        tmp_path / "q.onnx",
    )

    assert read_declared(tmp_path / "q.onnx").precision == "int8"


def test_the_one_node_model_is_valid_onnx():
    onnx.checker.check_model(onnx.load_from_string(one_node_model()))


def test_a_file_cut_anywhere_is_refused(make_network, tmp_path):
    whole = make_network().read_bytes()
    cut = tmp_path / "cut.onnx"
    graph_ends = len(whole) - 8  # past it only whole trailing fields are lost

    for size in range(1, graph_ends, 97):
        cut.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"truncated|not an ONNX file"):
            read_declared(cut)


@pytest.mark.parametrize(
    "content", [b"import numpy as np\n" * 20, b"\x00" * 100, b"\xff" * 100, b"PK\x03\x04 a zip"]
)
def test_another_kind_of_file_is_refused(tmp_path, content):
    other = tmp_path / "other.onnx"
    other.write_bytes(content)

    with pytest.raises(InputError, match="other"):
        read_declared(other)


@pytest.mark.parametrize(
    ("name", "match"), [("nothing.onnx", "does not exist"), (".", "is not a file")]
)
def test_what_is_no_file_is_refused(tmp_path, name, match):
    with pytest.raises(InputError, match=match):
        read_declared(tmp_path / name)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.onnx").touch()

    with pytest.raises(InputError, match="empty"):
        read_declared(tmp_path / "empty.onnx")


def test_missing_external_weights_are_named(make_network, tmp_path):
    model = onnx.load(make_network())
    onnx.save(
        model, tmp_path / "big.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    read_declared(tmp_path / "big.onnx")
    (tmp_path / "w.bin").unlink()

    with pytest.raises(InputError, match=r"w\.bin"):
        read_declared(tmp_path / "big.onnx")
