"""What a runtime really computes in, whatever the file says."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.devices.bench import bench
from pipeline.graphs.precision import Activations, make
from pipeline.reporting.progress import Reporter
from profiles.comparison import require_same_identity
from profiles.rounds import measure
from profiles.target import find_target
from runtimes import base
from runtimes.base import Layer, Precision
from runtimes.errors import InputError
from runtimes.inputs import seeded
from runtimes.read_back import computed_in


@pytest.fixture
def variant(make_network, tmp_path):
    """`variant("int8", "uint8")`: a small network in that precision."""

    def made(precision: Precision, activations: Activations = "uint8") -> Path:
        network = make_network(convolutions=3, batch="n")
        if precision == "fp32":
            return network
        noise = np.random.default_rng(0).standard_normal((16, 3, 12, 12)).astype(np.float32)
        path = tmp_path / f"{precision}.onnx"
        make(network, precision, path, calibration={"image": noise}, activations=activations)
        return path

    return made


def load(runtime, path, **more):
    return base.make(runtime, "cpu").load(path, threads=1, inputs=seeded(batch=1), **more)


def test_eight_bits_that_are_fused_are_eight_bits_on_both_runtimes(variant):
    path = variant("int8")

    said = [load(name, path).identity()["inference_precision"] for name in ("ort", "ov")]

    assert said == ["int8", "int8"]


def test_what_differs_in_precision_is_compared_when_that_is_the_question(variant):
    files = [variant(precision) for precision in ("fp32", "int8")]
    fp32, int8 = measure(find_target("x86-cpu"), files, rounds=1, seed=0, warm_up_s=0.05)

    with pytest.raises(InputError, match="--across inference_precision --across precision"):
        require_same_identity(int8, fp32)
    require_same_identity(int8, fp32, across=("inference_precision", "precision"))


def test_pairs_that_onnx_runtime_cannot_fuse_are_told_as_fp32(variant):
    session = load("ort", variant("int8", "int8"), layers=True)

    session.run()

    convolutions = {layer.precision for layer in session.layers() if "Conv" in layer.kind}
    assert session.identity()["inference_precision"] == "fp32"
    assert convolutions == {"fp32"}


def test_openvino_told_f32_computes_an_fp16_file_in_fp32_and_says_so(variant):
    identity = load("ov", variant("fp16")).identity()

    assert (identity["precision_hint"], identity["inference_precision"]) == ("f32", "fp32")


def test_an_fp16_file_is_told_as_its_convolutions_run(variant):
    session = load("ort", variant("fp16"), layers=True)

    session.run()

    (ran_in,) = {layer.precision for layer in session.layers() if "Conv" in layer.kind}
    assert session.identity()["inference_precision"] == ran_in


@pytest.mark.parametrize("runtime", ["ort", "ov"])
def test_reading_back_leaves_the_outputs_alone(variant, runtime):
    session = load(runtime, variant("int8"))
    session.run()
    before = session.outputs()["pooled"]

    session.identity()
    session.run()

    np.testing.assert_array_equal(session.outputs()["pooled"], before)


@pytest.mark.parametrize(
    ("layers", "precision"),
    [
        ([("Conv", "fp32"), ("QuantizeLinear", "int8")], "fp32"),
        ([("QLinearConv", "int8"), ("Conv", "fp32")], "int8"),
        ([("FullyConnected", "fp16"), ("Relu", "int8")], "fp16"),
        ([("Relu", "fp16"), ("Shape", None)], "fp16"),
        ([("Conv", None)], None),
    ],
)
def test_operators_with_weights_decide(layers, precision):
    assert computed_in(Layer("", kind, 0.0, found) for kind, found in layers) == precision


def test_bench_says_when_another_precision_is_computed(variant, capsys):
    document = bench(variant("fp16"), find_target("x86-openvino"), Reporter(), rounds=1)

    assert document.identity["precision"] == "fp16"
    assert "is fp16, and x86-openvino computes it in fp32" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "asked", "fix"),
    [
        ("fp32", "int8", "`shoal export .*network.onnx --precision int8 --calibration"),
        ("fp32", "fp16", "`shoal export .*network.onnx --precision fp16`"),
        ("int8", "fp16", "is int8, not fp16: precision is in the graph; give that file"),
        ("fp32", "int7", "no precision 'int7'; there are: fp32, fp16, int8"),
    ],
)
def test_bench_measures_no_other_precision_than_asked(variant, file, asked, fix):
    with pytest.raises(InputError, match=fix):
        bench(variant(file), find_target("x86-cpu"), Reporter(quiet=True), precision=asked)
