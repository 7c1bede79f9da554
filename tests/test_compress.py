"""The whole job on scikit-learn's digits: really trained, collapsed, run, measured, interrupted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest
from tiny_job import RECIPE, VERDICT_CODES, artifact_of, kill_when, resumed

from pipeline.reporting.progress import Reporter
from pipeline.verbs.exported import Wish, export_files
from runtimes.errors import InputError
from runtimes.onnx_file import sha256


def test_the_networks_are_delivered_in_eight_bits_too(job):
    document = job.document
    fp32 = {"dense": document["dense"], "shallow": document["candidates"][0]}

    rows = {row["network"]: row for row in document["precisions"]}

    assert rows.keys() == fp32.keys()
    for network, row in rows.items():
        assert (row["precision"], row["activations"]) == ("int8", "uint8")
        assert row["parent"] == fp32[network]["artifacts"][0]["sha256"]
        assert row["parity"][0]["accuracy_change"] is not None
        assert (row["path"] is None) == (row["reason"] is not None) == (not row["measured_ms"])
        if row["path"] is not None:
            assert sha256(Path(row["path"])) == row["sha256"]
            assert row["measured_ms"].keys() == {"x86-cpu", "x86-openvino"}


def test_a_finished_job_is_exported_from_what_it_left(job, tmp_path):
    copy = shutil.copytree(job.workspace, tmp_path / "work")
    wish = Wish(str(job.folder / "tiny.toml"), ("fp32", "int8"), "digits", out=copy)

    document = export_files(wish, Reporter(quiet=True))

    known = {row["sha256"] for row in job.document["precisions"] if row["path"]}
    assert {one.sha256 for one in document.artifacts if one.precision == "int8"} == known
    assert [one.network for one in document.artifacts if one.precision == "fp32"] == [
        "dense",
        "shallow",
    ]


def test_the_exit_code_is_the_verdict(job):
    assert job.done.returncode == VERDICT_CODES[job.document["verdict"]], job.done.stderr


def test_the_network_learned_and_stays_close_to_dense(job):
    dense, candidate = job.document["dense"], job.document["candidates"][0]

    assert dense["accuracy"] > 0.8
    assert candidate["accuracy"] > dense["accuracy"] - 0.1


def test_the_planned_network_met_the_budget_before_it_was_trained(job):
    rounds = job.document["candidates"][0]["plan"]["rounds"]

    assert any(found["meets"] for turn in rounds for found in turn["targets"].values())


def test_what_was_removed_is_gone_from_the_artifact(job):
    candidate, dense = job.document["candidates"][0], job.document["dense"]
    graph = onnx.load(artifact_of(job.document)).graph
    kinds = [node.op_type for node in graph.node]
    removed = len(candidate["removed_sites"])

    assert removed > 0
    assert dense["activations"] == 17
    assert kinds.count("Relu") == candidate["activations"] == 17 - removed
    assert kinds.count("Conv") + kinds.count("Gemm") == 21 - candidate["merged_operators"]
    assert "BatchNormalization" not in kinds


def test_the_artifact_is_still_the_torch_model_on_both_runtimes(job):
    parity = job.document["candidates"][0]["parity"]

    assert [p["target"] for p in parity] == ["x86-cpu", "x86-openvino"]
    assert all(p["passed"] and p["max_relative"] <= 1e-4 for p in parity)
    assert all(p["images"] == job.document["test_images"] == 397 for p in parity)
    assert all(
        p["accuracy"] == pytest.approx(job.document["candidates"][0]["accuracy"], abs=0.006)
        for p in parity
    )


def test_the_certificate_passed(job):
    assert job.document["candidates"][0]["certificate"]["passed"]


def test_every_network_was_measured_on_every_target(job):
    for network in (job.document["dense"], *job.document["candidates"]):
        assert set(network["measured_ms"]) == {"x86-cpu", "x86-openvino"}
        for latency in network["measured_ms"].values():
            lo, hi = latency["interval_ms"]
            assert 0 < lo <= latency["median_ms"] <= hi


def test_exact_merges_alone_were_measured_too(job):
    assert set(job.document["exact_only"]["measured_ms"]) == {"x86-cpu"}
    assert all("/merge-" in option for option in job.document["exact_only"]["options"])


def test_the_report_is_there(job):
    for name in ("report.json", "report.md", "report.html"):
        assert (job.workspace / name).stat().st_size > 1000
    assert json.loads((job.workspace / "report.json").read_text()) == job.document


def test_progress_is_on_stderr_as_plain_lines(job):
    assert "latency table ..." in job.done.stderr
    assert "\x1b" not in job.done.stderr


def test_resuming_a_finished_job_does_nothing_again(job):
    stages = job.workspace / "stages"
    before = {p: p.stat().st_mtime_ns for p in stages.rglob("*")}

    document = resumed(job.folder)

    assert {p: p.stat().st_mtime_ns for p in stages.rglob("*")} == before
    same = ("dense", "candidates", "chosen", "verdict", "exact_only", "sites")
    assert {key: document[key] for key in same} == {key: job.document[key] for key in same}


def test_a_job_killed_while_it_fine_tunes_resumes_to_the_same_artifact(job, tmp_path):
    """Killed and resumed elsewhere: byte for byte the undisturbed result."""
    (tmp_path / "tiny.toml").write_text(RECIPE)
    shutil.copytree(job.workspace, tmp_path / "work")
    stages = tmp_path / "work" / "stages"
    for name in ("student", "collapsed", "parity", "measured"):
        for stage in stages.glob(f"{name}-*"):
            shutil.rmtree(stage)
    kill_when(tmp_path, "student", "--resume")
    assert not list(stages.glob("student-*"))

    document = resumed(tmp_path)

    assert artifact_of(document).is_relative_to(tmp_path.resolve())
    assert sha256(artifact_of(document)) == sha256(artifact_of(job.document))
    assert document["candidates"][0]["accuracy"] == job.document["candidates"][0]["accuracy"]
    assert document["candidates"][0]["certificate"]["passed"]


def test_a_job_killed_twice_has_the_same_dense_network(job, tmp_path):
    (tmp_path / "tiny.toml").write_text(RECIPE)
    stages = tmp_path / "work" / "stages"
    kill_when(tmp_path, "dense")
    assert list(stages.iterdir()) == []

    kill_when(tmp_path, "effects", "--resume")

    (dense,) = stages.glob("dense-*/dense.onnx")
    assert sha256(dense) == job.document["dense"]["artifacts"][0]["sha256"]
    assert not list(stages.glob("effects-*"))


def test_a_budget_below_the_fastest_plan_says_what_was_measured(job, tmp_path):
    shutil.copytree(job.workspace, tmp_path / "work")

    with pytest.raises(InputError, match=r"the fastest measured .* over its budget of 0\.01x"):
        resumed(tmp_path, RECIPE.replace('"0.9x"', '"0.01x"'))
