"""The contract of a runtime, over every one that there is."""

import importlib

import numpy as np
import pytest

from runtimes import base
from runtimes.errors import InputError, RuntimeUnavailable
from runtimes.inputs import concrete_shape, given, seeded
from runtimes.onnx_file import Port, one_node_model


@pytest.fixture(params=base.names())
def runtime(request):
    try:
        return base.get(request.param)()
    except RuntimeUnavailable as e:
        pytest.skip(str(e))


@pytest.fixture(params=["ort", "ov"])
def computing(request):
    try:
        return base.get(request.param)()
    except RuntimeUnavailable as e:
        pytest.skip(str(e))


def test_it_names_its_version_and_its_providers(runtime):
    assert runtime.version()
    assert runtime.providers()


def test_it_runs_what_it_loaded(runtime, make_network):
    session = runtime.load(make_network(), threads=1, inputs=seeded(batch=1))
    session.run()

    outputs = session.outputs()

    assert outputs["pooled"].shape == (1, 8, 1, 1)
    session.close()


def test_it_says_what_it_runs_on(runtime, make_network):
    session = runtime.load(make_network(), threads=1, inputs=seeded(batch=1))

    assert session.identity()["providers"]


def test_a_dynamic_batch_becomes_the_batch_asked_for(runtime, make_network):
    shapes = []

    def inputs(ports):
        arrays = seeded(batch=3)(ports)
        shapes.extend(array.shape for array in arrays.values())
        return arrays

    session = runtime.load(make_network(batch="n"), threads=1, inputs=inputs)
    session.run()

    assert shapes == [(3, 3, 12, 12)]


def test_outputs_are_copies_that_later_runs_leave_alone(computing, make_network):
    session = computing.load(make_network(), threads=1, inputs=seeded(batch=1))
    session.run()
    first = session.outputs()["pooled"]
    kept = first.copy()
    first += 1

    session.run()

    np.testing.assert_array_equal(session.outputs()["pooled"], kept)


def test_the_inputs_bound_are_those_given(computing, tmp_path):
    path = tmp_path / "relu.onnx"
    path.write_bytes(one_node_model())
    image = np.array([[-1.0, 2.0, -3.0, 4.0]], np.float32)

    session = computing.load(path, threads=1, inputs=given({"x": image}))
    session.run()

    np.testing.assert_array_equal(session.outputs()["y"], [[0, 2, 0, 4]])


def test_runtimes_agree_on_a_network(make_network):
    path = make_network(convolutions=4)
    results = []
    for name in ("ort", "ov"):
        session = base.get(name)().load(path, threads=1, inputs=seeded(batch=1))
        session.run()
        results.append(session.outputs()["pooled"])

    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-6)


def test_layers_are_timed_by_the_runtimes_own_profiler(computing, make_network):
    session = computing.load(make_network(), threads=1, inputs=seeded(batch=1), layers=True)
    session.run()

    layers = session.layers()

    assert any(layer.kind.startswith("Conv") for layer in layers)
    assert sum(layer.time_ms for layer in layers) > 0


def test_a_file_that_the_sdk_refuses_is_an_input_error(computing, tmp_path):
    path = tmp_path / "odd.onnx"
    path.write_bytes(one_node_model().replace(b"Relu", b"Rulu"))

    with pytest.raises(InputError, match="cannot load"):
        computing.load(path, threads=1, inputs=seeded(batch=1))


def test_a_device_that_is_not_there_is_named_with_those_that_are(computing, make_network):
    absent = type(computing)("npu")

    with pytest.raises(RuntimeUnavailable, match="here; it has"):
        absent.load(make_network(), threads=1, inputs=seeded(batch=1))


def test_a_provider_that_leaves_the_work_to_another_is_refused(make_network):
    idle = base.make("ort", "AzureExecutionProvider")  # in the wheel, and runs no operator

    with pytest.raises(RuntimeUnavailable, match="ran a single node on CPUExecutionProvider"):
        idle.load(make_network(), threads=1, inputs=seeded(batch=1))


def test_a_provider_that_runs_the_node_is_proved():
    ort = importlib.import_module("runtimes.ort")

    ort.prove("CPUExecutionProvider", ["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("device", "precision", "option", "value"),
    [
        ("cuda", "fp32", "use_tf32", "0"),
        ("cuda", "fp32", "device_id", "1"),
        ("tensorrt", "fp16", "trt_fp16_enable", "1"),
        ("tensorrt", "int8", "trt_fp16_enable", "0"),
        ("tensorrt", "int8", "trt_int8_enable", "1"),
    ],
)
def test_options_of_a_gpu_provider_follow_the_graph(device, precision, option, value):
    ort = importlib.import_module("runtimes.ort")

    options = ort.provider_options(ort.PROVIDERS[device], 1, precision)

    assert options[option] == value


@pytest.mark.parametrize(
    ("device", "available", "there"),
    [
        ("GPU", ["CPU", "GPU.0", "GPU.1"], True),
        ("GPU.1", ["CPU", "GPU.0", "GPU.1"], True),
        ("GPU.2", ["CPU", "GPU.0", "GPU.1"], False),
        ("NPU", ["CPU", "NPU"], True),
        ("AUTO", ["CPU", "NPU"], False),
        ("HETERO:GPU,CPU", ["CPU", "GPU"], False),
    ],
)
def test_a_device_of_openvino_is_one_device(device, available, there):
    pytest.importorskip("openvino")
    ov = importlib.import_module("runtimes.ov")

    assert ov.names_one_of(device, available) is there


@pytest.mark.parametrize(
    ("device", "cache", "kept"),
    [("CPU", "auto", False), ("CPU", "on", True), ("GPU", "auto", True), ("NPU", "off", False)],
)
def test_openvino_keeps_what_takes_long_to_compile(device, cache, kept):
    pytest.importorskip("openvino")
    ov = importlib.import_module("runtimes.ov").Ov(device, cache)

    assert ("CACHE_DIR" in ov.settings(1, False, device)) is kept


def test_openvino_loads_from_its_cache_the_second_time(make_network, monkeypatch, tmp_path):
    pytest.importorskip("openvino")
    monkeypatch.setenv("SHOAL_CACHE", str(tmp_path / "cache"))
    path = make_network()
    kept = base.make("ov", "cpu", {"cache": "on"})
    expected = kept.load(path, threads=1, inputs=seeded(batch=1))
    expected.run()

    session = kept.load(path, threads=1, inputs=seeded(batch=1))
    session.run()

    assert list((tmp_path / "cache" / "openvino").glob("*.blob"))
    np.testing.assert_array_equal(session.outputs()["pooled"], expected.outputs()["pooled"])


def test_an_npu_is_not_told_a_precision_it_lacks():
    pytest.importorskip("openvino")
    ov = importlib.import_module("runtimes.ov").Ov("npu")

    assert "INFERENCE_PRECISION_HINT" not in ov.settings(1, False, "NPU")
    assert ov.settings(1, False, "GPU")["INFERENCE_PRECISION_HINT"] == "f32"


def test_only_a_runtime_with_a_device_clock_tells_its_time(runtime, make_network):
    session = runtime.load(make_network(), threads=1, inputs=seeded(batch=1))
    session.run()

    time_ms = session.device_ms()

    assert time_ms is None or time_ms > 0


def test_an_unknown_runtime_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match="did you mean 'ort'"):
        base.get("orf")


def test_two_threads_are_told_to_the_runtime(computing, make_network):
    session = computing.load(make_network(), threads=2, inputs=seeded(batch=1))

    identity = session.identity()

    assert "2" in (identity.get("intra_op_threads"), identity.get("inference_num_threads"))


def test_a_dynamic_dimension_other_than_the_batch_must_be_given():
    port = Port("image", "float32", ("n", 3, "height", 224))

    with pytest.raises(InputError, match=r"--shape image=1x3x224x224"):
        concrete_shape(port, 1, {})


def test_a_given_shape_must_agree_with_the_declared_one():
    port = Port("image", "float32", ("n", 3, "height", 224))

    assert concrete_shape(port, 1, {"image": (2, 3, 64, 224)}) == (2, 3, 64, 224)
    with pytest.raises(InputError, match="is declared"):
        concrete_shape(port, 1, {"image": (2, 4, 64, 224)})


def test_a_fixed_batch_is_not_passed_off_as_another():
    with pytest.raises(InputError, match=r"fixed batch of 4, not 1.* a target whose file says so"):
        concrete_shape(Port("image", "float32", (4, 3, 8, 8)), 1, {})


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "bool", "uint8"])
def test_noise_has_the_declared_type(dtype):
    arrays = seeded(batch=2)((Port("x", dtype, ("n", 5)),))

    assert (arrays["x"].dtype.name, arrays["x"].shape) == (dtype, (2, 5))


def test_given_inputs_must_be_those_declared():
    with pytest.raises(InputError, match="the network declares: x"):
        given({"y": np.zeros(1)})((Port("x", "float32", (1,)),))


def test_openvinos_layers_are_free_of_their_cold_runs(make_network):
    """Its profiler keeps means over all runs: the first, which compiles, is worth many others."""
    ov = pytest.importorskip("runtimes.ov", reason="pip install openvino")
    session = ov.Ov().load(make_network(), threads=1, inputs=seeded(batch=1), layers=True)
    for _ in range(ov.COLD_RUNS):
        session.run()
    cold = sum(layer.time_ms for layer in session.layers())
    for _ in range(60):
        session.run()

    later = sum(layer.time_ms for layer in session.layers())

    assert 0 < later < cold / 2


def test_the_mean_over_later_runs_is_what_the_two_means_leave():
    ov = pytest.importorskip("runtimes.ov", reason="pip install openvino")

    assert ov._later_mean((100.0 + 9 * 2.0) / 10, 10, 100.0, 1) == pytest.approx(2.0)
    assert ov._later_mean(3.0, 4, 0.0, 0) == 3.0
