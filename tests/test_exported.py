"""`shoal export`: what is delivered was verified, what was not is not there."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.reporting.progress import Reporter
from pipeline.verbs import variants
from pipeline.verbs.export_document import exit_code
from pipeline.verbs.exported import Wish, export_files
from runtimes.errors import InputError
from runtimes.onnx_file import read_declared, sha256

RECIPE = """
name = "tiny"
threads = 1
verify = []

[model]
spec = "resnet18"
options = { width = 4 }

[data]
dataset = "digits"

[train]
epochs = 3
batch_size = 50
learning_rate = 0.05

[calibration]
images = 100

[[targets]]
name = "x86-cpu"
budget = "0.9x"
"""
ALL = ("fp32", "fp16", "int8")


def export(source, *precisions, **more):
    wish = Wish(str(source), precisions or ("fp32",), "fashion-mnist", **more)
    return export_files(wish, Reporter(quiet=True))


def paths(document):
    return [Path(one.path) for one in document.artifacts]


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    (folder / "tiny.toml").write_text(RECIPE)
    return folder, export(folder / "tiny.toml", *ALL, out=folder / "work")


def test_a_fresh_workspace_gives_the_dense_network_in_every_precision(job):
    _, document = job

    assert [one.precision for one in document.artifacts] == list(ALL)
    assert [read_declared(p).precision for p in paths(document)] == list(ALL)
    assert [sha256(p) for p in paths(document)] == [one.sha256 for one in document.artifacts]
    assert exit_code(document) == 0


def test_fp32_is_held_against_torch_and_the_others_against_fp32(job):
    _, document = job
    dense = document.artifacts[0]

    against = [[parity.against for parity in one.parity] for one in document.artifacts]

    assert against == [["torch"], [dense.sha256], [dense.sha256]]
    assert [one.parent for one in document.artifacts] == [None, dense.sha256, dense.sha256]
    assert all(parity.passed for one in document.artifacts for parity in one.parity)


def test_each_precision_states_how_far_it_is_and_what_it_costs(job):
    _, document = job
    full, half, eight = (one.parity[0] for one in document.artifacts)

    assert full.max_relative < 1e-5 < half.max_relative < 2e-2 < 0.25
    assert half.max_relative < eight.max_relative <= 0.25
    assert full.samples == half.samples == eight.samples == 200
    assert eight.accuracy == pytest.approx(full.accuracy + eight.accuracy_change)


def test_without_a_finished_job_it_says_what_is_not_there(job):
    _, document = job

    assert "holds no finished job: run `shoal compress` first" in document.missing["shallow"]


def test_nothing_is_made_twice(job, monkeypatch):
    folder, first = job
    monkeypatch.setattr(variants, "make", None)

    again = export(folder / "tiny.toml", *ALL, out=folder / "work")

    assert again == first


def test_a_report_that_is_none_is_not_exported(job):
    folder, _ = job
    (folder / "work" / "report.json").write_text(json.dumps({"schema": "shoal.compress/1"}))

    document = export(folder / "tiny.toml", out=folder / "work")

    (folder / "work" / "report.json").unlink()
    assert "is no shoal.compress/1 document" in document.missing["shallow"]


def test_a_checkpoint_is_the_dense_network_of_its_recipe(job, tmp_path):
    folder, first = job
    (weights,) = (folder / "work" / "stages").glob("dense-*/weights.pt")
    wish = Wish(str(weights), ("fp32",), str(folder / "tiny.toml"), out=tmp_path / "other")

    document = export_files(wish, Reporter(quiet=True))

    assert document.artifacts[0].parity[0].accuracy == first.artifacts[0].parity[0].accuracy


def test_a_checkpoint_that_is_not_there_is_named():
    with pytest.raises(InputError, match=r"'nope.pt' does not exist"):
        export_files(Wish("nope.pt", ("fp32",), "digits"), Reporter(quiet=True))


def test_what_fails_its_check_is_refused_and_not_delivered(make_network, monkeypatch):
    monkeypatch.setitem(variants.TOLERANCES, "fp16", 1e-7)
    network = make_network(batch="n")

    document = export(network, "fp32", "fp16")

    assert [one.precision for one in document.artifacts] == ["fp32"]
    assert document.refused[0].reason.startswith("x86-cpu: outputs ")
    assert [path.name for path in network.parent.iterdir()] == ["network.onnx"]
    assert exit_code(document) == 3


def test_an_onnx_file_is_exported_beside_itself(make_network, tmp_path):
    network = make_network(batch="n")
    noise = np.random.default_rng(0).standard_normal((16, 3, 12, 12)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", image=noise)

    document = export(network, "fp16", "int8", calibration=tmp_path / "samples.npz")

    assert [path.name for path in paths(document)] == ["network-fp16.onnx", "network-int8.onnx"]
    assert all(path.parent == tmp_path and path.is_file() for path in paths(document))
    assert [one.parity[0].accuracy for one in document.artifacts] == [None, None]


def test_for_tensorrt_the_activations_are_signed(make_network, tmp_path):
    noise = np.random.default_rng(0).standard_normal((16, 3, 12, 12)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", image=noise)

    document = export(
        make_network(batch="n"),
        "int8",
        targets=("jetson-orin-nano",),
        calibration=tmp_path / "samples.npz",
    )

    assert paths(document)[0].name == "network-int8-symmetric.onnx"
    assert document.artifacts[0].activations == "int8"
    assert document.artifacts[0].parity[0].target == "x86-cpu"


@pytest.mark.parametrize(
    ("precisions", "samples", "reason"),
    [
        (("int8",), None, "needs calibration data: samples of 'image'"),
        (("int7",), None, "no precision 'int7'; there are: fp32, fp16, int8"),
        (("int8",), b"no numbers", "holds no calibration data"),
    ],
)
def test_what_cannot_be_exported_is_refused(make_network, tmp_path, precisions, samples, reason):
    network = make_network(batch="n")
    if samples is not None:
        (tmp_path / "samples.npz").write_bytes(samples)
    path = None if samples is None else tmp_path / "samples.npz"

    with pytest.raises(InputError, match=reason):
        export(network, *precisions, calibration=path)

    assert {p.name for p in tmp_path.iterdir()} <= {"network.onnx", "samples.npz"}


def test_a_file_of_any_size_needs_samples_to_be_checked_on(make_network):
    with pytest.raises(InputError, match="give samples of it with --calibration"):
        export(make_network(batch="n", height="h"), "fp16")


def test_a_recipe_calibrates_on_its_own_data(job, tmp_path):
    folder, _ = job

    with pytest.raises(InputError, match="--calibration is for an ONNX file"):
        export(folder / "tiny.toml", "int8", calibration=tmp_path / "samples.npz")
