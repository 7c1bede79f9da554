"""The TensorRT adapter: its contract on strict fakes of four releases and, on request, a device.

`pytest -m gpu tests/test_trt.py` runs the contract on the TensorRT and GPU of this machine, and
fails where there is none. Without it those cases are skipped; no fake stands in for them.
"""

import numpy as np
import pytest
from fake_sdks import FAKES, fake_tensorrt
from small_networks import reference, run

from pipeline.devices.probes import half_network, quantised_network
from runtimes import base
from runtimes.errors import InputError, RuntimeUnavailable
from runtimes.inputs import given, seeded
from runtimes.onnx_file import one_node_model


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(
    params=[*FAKES, pytest.param("device", marks=pytest.mark.gpu)],
    ids=lambda param: param if param == "device" else "-".join(param).replace(" ", "-"),
)
def runtime(request, monkeypatch):
    if request.param == "device":
        yield real_runtime(request.config)
        return
    with fake_tensorrt(monkeypatch, *request.param):
        yield base.make("trt", "gpu")


def real_runtime(config):
    try:
        made = base.make("trt", "gpu")
        assert made.providers()
    except RuntimeUnavailable as e:
        if "gpu" in config.option.markexpr:
            pytest.fail(f"asked to run on a GPU, and there is none to run on: {e}")
        pytest.skip(str(e))
    return made


def test_it_names_its_version_and_its_devices(runtime):
    assert runtime.version()
    assert "gpu:0" in runtime.providers()


def test_it_computes_one_node_on_the_inputs_given(runtime, tmp_path):
    path = tmp_path / "relu.onnx"
    path.write_bytes(one_node_model())
    image = np.array([[-1.0, 2.0, -3.0, 4.0]], np.float32)

    session = runtime.load(path, threads=1, inputs=given({"x": image}))
    session.run()

    np.testing.assert_array_equal(session.outputs()["y"], [[0, 2, 0, 4]])
    session.close()


def test_it_computes_what_onnx_runtime_computes(runtime, make_network):
    path = make_network(convolutions=4)

    session = run(runtime, path)

    np.testing.assert_allclose(
        session.outputs()["pooled"], reference(path)["pooled"], rtol=1e-3, atol=1e-5
    )
    session.close()


def test_a_dynamic_batch_is_built_for_the_batch_asked_for(runtime, make_network):
    path = make_network(batch="n")

    session = runtime.load(path, threads=1, inputs=seeded(batch=3))
    session.run()

    expected = reference(path, seeded(batch=3))["pooled"]
    np.testing.assert_allclose(session.outputs()["pooled"], expected, rtol=1e-3, atol=1e-5)
    session.close()


def test_outputs_are_copies(runtime, make_network):
    session = run(runtime, make_network())
    first = session.outputs()["pooled"]
    kept = first.copy()
    first += 1

    session.run()

    np.testing.assert_array_equal(session.outputs()["pooled"], kept)
    session.close()


@pytest.mark.parametrize(
    ("make", "precision", "tolerance"),
    [(half_network, "fp16", 2e-2), (quantised_network, "int8", 5e-2)],
)
def test_the_graph_decides_the_precision(runtime, tmp_path, make, precision, tolerance):
    path = make(tmp_path / "network.onnx")

    session = run(runtime, path)

    assert session.identity()["inference_precision"] == precision
    np.testing.assert_allclose(
        session.outputs()["y"].astype(np.float32),
        reference(path)["y"].astype(np.float32),
        atol=tolerance,
    )
    session.close()


def test_it_says_what_a_time_depends_on(runtime, make_network):
    identity = run(runtime, make_network()).identity()

    assert identity["providers"].startswith(f"TensorRT {runtime.version()} on gpu of ")
    assert identity["inference_precision"] == "fp32"
    assert identity["tf32"] == "off"
    assert identity["typing"] in ("weak", "strong")


def test_layers_have_times_and_precisions(runtime, make_network):
    session = run(runtime, make_network(), layers=True)

    layers = session.layers()

    assert sum(layer.time_ms for layer in layers) > 0
    assert "fp32" in {layer.precision for layer in layers}
    session.close()


def test_the_device_has_a_clock_of_its_own(runtime, make_network):
    session = run(runtime, make_network())

    time_ms = session.device_ms()

    assert time_ms is not None
    assert time_ms > 0
    session.close()


def test_an_engine_is_built_once(runtime, make_network):
    path = make_network()
    first = run(runtime, path).loaded.origin

    second = run(runtime, path).loaded.origin

    assert first == "no engine of this network with these settings yet"
    assert second == "built before"


def test_a_file_that_tensorrt_refuses_is_an_input_error(runtime, tmp_path):
    path = tmp_path / "odd.onnx"
    path.write_bytes(one_node_model().replace(b"Relu", b"Rulu"))

    with pytest.raises(InputError, match=r"cannot load .*odd\.onnx"):
        runtime.load(path, threads=1, inputs=seeded(batch=1))


@pytest.mark.parametrize("device", ["npu", "gpu:77", "dla:9"])
def test_a_device_that_is_not_there_is_refused(runtime, tmp_path, device):
    absent = type(runtime)(device)

    with pytest.raises(RuntimeUnavailable, match=r"no .* here"):
        run(absent, half_network(tmp_path / "network.onnx"))
