"""What `shoal export` makes in fp16 and int8, through the adapter on strict fakes of TensorRT."""

import numpy as np
import onnx
import pytest
from fake_sdks import FAKES, TENSORRT, fake_tensorrt
from onnx import helper
from small_networks import reference

from pipeline.devices.probes import stacked_network
from pipeline.graphs.precision import activations_for, make
from profiles.target import find_target
from runtimes import base
from runtimes.errors import InputError
from runtimes.inputs import given

JETSON = find_target("jetson-orin-nano")
FLAGS = {"fp16": {"FP16"}, "int8": {"INT8"}}


@pytest.fixture(scope="module")
def images():
    noise = np.random.default_rng(0).standard_normal((16, 3, 8, 8))
    return {"x": noise.astype(np.float32)}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Three convolutions and a softmax, which stays fp32 in fp16."""
    path = stacked_network(tmp_path_factory.mktemp("trt") / "network.onnx")
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Softmax", ["y"], ["shares"], name="softmax", axis=1))
    model.graph.output[0].name = "shares"
    onnx.save(model, path)
    return path


def made(network, images, precision):
    """In the form that a Jetson needs, made once."""
    path = network.with_name(f"{precision}.onnx")
    if not path.exists():
        (form,) = activations_for([JETSON])
        make(network, precision, path, calibration=images, activations=form)
    return path


@pytest.fixture(params=FAKES[:4], ids=TENSORRT)
def fake(request, monkeypatch, tmp_path):
    monkeypatch.setenv("SHOAL_CACHE", str(tmp_path / "cache"))
    with fake_tensorrt(monkeypatch, *request.param) as fake:
        yield fake


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_an_exported_file_is_built_run_and_read_back_in_its_precision(
    fake, network, images, precision
):
    path = made(network, images, precision)

    session = base.make("trt", "gpu").load(path, threads=1, inputs=given(images), layers=True)
    session.run()

    assert session.identity()["inference_precision"] == precision
    assert [one.precision for one in session.layers() if one.kind == "CaskConvolution"] == [
        precision
    ] * 3
    (build,) = fake.trt.builds
    weak = fake.trt.version == "10.3.0"
    assert (build["strong"], build["flags"]) == (not weak, FLAGS[precision] if weak else set())
    expected = reference(network, given(images))["shares"]
    np.testing.assert_allclose(session.outputs()["shares"], expected, atol=3e-2)


@pytest.mark.usefixtures("fake")
def test_what_stays_fp32_in_the_graph_is_read_back_as_fp32(network, images):
    path = made(network, images, "fp16")

    session = base.make("trt", "gpu").load(path, threads=1, inputs=given(images), layers=True)
    session.run()

    assert [one.precision for one in session.layers() if one.kind == "Softmax"] == ["fp32"]


@pytest.mark.usefixtures("fake")
def test_eight_bits_in_the_form_for_a_cpu_are_refused_by_every_release(network, images):
    path = network.with_name("asymmetric.onnx")
    make(network, "int8", path, calibration=images, activations="uint8")

    with pytest.raises(
        InputError, match=r"cannot load .*asymmetric\.onnx: QuantizeLinear .*: Non-zero zero point"
    ):
        base.make("trt", "gpu").load(path, threads=1, inputs=given(images))
