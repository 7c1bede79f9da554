"""The gate from the command line to its files and exit code, on real networks."""

import errno
import json

import numpy as np
import pytest

from pipeline.devices import gate
from profiles import fitness
from profiles.measurement import write_atomically

pytestmark = pytest.mark.usefixtures("quick_and_calm")


def test_a_slower_network_fails_the_gate_and_every_file_says_so(shoal, networks, tmp_path):
    small, large = networks
    out = tmp_path / "gate"

    code, document, _ = shoal(
        "gate", "--baseline", small, "--candidate", large, "--rounds", 10, "--out", out, "--json"
    )

    assert code == 3
    assert document["verdict"] == "FAIL"
    assert "confirmed by a second run" in document["checks"][0]["reason"]
    assert json.loads((out / "gate.json").read_text()) == document
    assert "<failure" in (out / "junit.xml").read_text()
    assert "FAIL" in (out / "summary.md").read_text()
    for name in ("github-action-benchmark", "bencher", "pytest-benchmark"):
        assert json.loads((out / f"{name}.json").read_text())


def test_a_faster_network_passes_with_its_budget_and_its_accuracy(shoal, networks, tmp_path):
    small, large = networks
    predictions = tmp_path / "right.npy"
    np.save(predictions, np.ones(5000))

    code, document, _ = shoal(
        "gate", "--baseline", large, "--candidate", small, "--rounds", 10, "--budget", "0.9x",
        "--predictions", predictions, "--predictions", predictions,
        "--out", tmp_path / "gate", "--json",
    )  # fmt: skip

    assert code == 0
    assert [check["verdict"] for check in document["checks"]] == ["PASS"] * 3
    assert [check["kind"] for check in document["checks"]] == ["latency", "budget", "accuracy"]
    assert document["checks"][1]["limit"] == 0.9  # judged in pairs, as the ratio it is


def test_predictions_alone_are_a_gate_without_measuring(shoal, networks, tmp_path):
    right, wrong = tmp_path / "right.npy", tmp_path / "wrong.npy"
    np.save(right, np.ones(5000))
    np.save(wrong, np.zeros(5000))

    code, document, _ = shoal(
        "gate", "--candidate", networks[0], "--predictions", right, "--predictions", wrong,
        "--out", tmp_path / "gate", "--json",
    )  # fmt: skip

    assert code == 3
    assert [check["kind"] for check in document["checks"]] == ["accuracy"]
    assert document["measured"] == []


def test_a_gate_that_found_nothing_leaves_no_older_verdict_behind(shoal, tmp_path):
    out = tmp_path / "gate"
    out.mkdir()
    (out / "gate.json").write_text('{"verdict": "PASS"}')
    (out / "mine.txt").write_text("keep")

    code, _, _ = shoal("gate", "--candidate", "nothing.onnx", "--budget", "1ms", "--out", out)

    assert code == 2
    assert [one.name for one in out.iterdir()] == ["mine.txt"]


def test_a_gate_that_found_nothing_leaves_no_folder_that_it_made(shoal, tmp_path):
    code, _, _ = shoal(
        "gate", "--candidate", "nothing.onnx", "--budget", "1ms", "--out", tmp_path / "a" / "b"
    )

    assert code == 2
    assert not (tmp_path / "a").exists()


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_measured(
    shoal, networks, tmp_path, monkeypatch
):
    monkeypatch.setattr(gate, "check_on", lambda *_: pytest.fail("measured first"))
    (tmp_path / "file").write_text("")

    code, _, said = shoal(
        "gate", "--candidate", networks[0], "--budget", "1ms", "--out", tmp_path / "file" / "gate"
    )

    assert code == 2
    assert "cannot be written" in said


def test_a_disk_that_fills_up_leaves_no_half_of_a_gate(shoal, tmp_path, monkeypatch):
    def full(path, text):
        if path.name == "junit.xml" and text:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomically(path, text)

    monkeypatch.setattr(gate, "write_atomically", full)
    np.save(tmp_path / "right.npy", np.ones(5000))

    code, document, said = shoal(
        "gate", "--predictions", tmp_path / "right.npy", "--predictions", tmp_path / "right.npy",
        "--out", tmp_path / "gate", "--json",
    )  # fmt: skip

    assert (code, document) == (5, None)
    assert "No space left on device" in said
    assert not (tmp_path / "gate").exists()


def test_github_gets_annotations_and_a_step_summary(shoal, networks, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))

    code, _, said = shoal(
        "gate", "--candidate", networks[1], "--budget", "1us", "--rounds", 8,
        "--out", tmp_path / "gate", "--json",
    )  # fmt: skip

    assert code == 3
    assert "::error title=shoal FAIL%3A large budget on x86-cpu::over the budget" in said
    assert "| ❌ FAIL | large | budget |" in (tmp_path / "step.md").read_text()


def test_two_targets_are_checked_for_drift_too(shoal, networks, tmp_path):
    code, document, _ = shoal(
        "gate", "--candidate", networks[0], "--target", "x86-cpu", "--target", "x86-openvino",
        "--budget", "1000ms", "--budget", "1000ms", "--rounds", 7,
        "--out", tmp_path / "gate", "--json",
    )  # fmt: skip

    assert code == 0
    drift = document["checks"][-1]
    assert (drift["kind"], drift["verdict"]) == ("drift", "PASS")
    assert drift["target"] == "x86-cpu against x86-openvino"


def test_fewer_than_seven_rounds_cannot_decide_and_say_so(shoal, networks):
    code, document, _ = shoal("compare", *networks, "--rounds", 3, "--json")

    assert code == 4
    assert document["verdict"] == "INCONCLUSIVE"
    assert "3 rounds cannot decide" in document["reason"]
    assert document["interval"] == [None, None]


def test_another_identity_is_refused_after_the_first_round_unless_it_is_the_question(
    shoal, networks, make_network
):
    other = make_network("other.onnx", size=16)

    refused, _, said = shoal("compare", networks[0], other, "--json")
    crossed, document, _ = shoal(
        "compare", networks[0], other, "--across", "shapes", "--rounds", 7, "--json"
    )

    assert refused == 2
    assert "shapes: 1x3x16x16 and 1x3x12x12" in said
    assert "--across shapes" in said
    assert crossed in (0, 3, 4)
    assert document["rounds"] == 7


def test_a_promoted_baseline_is_measured_again_by_its_name(shoal, networks, tmp_path):
    small, large = networks
    assert shoal("promote", large, "--name", "net", "--json")[0] == 0
    large.unlink()

    code, document, _ = shoal(
        "gate", "--baseline", "net", "--candidate", small, "--rounds", 10,
        "--out", tmp_path / "gate", "--json",
    )  # fmt: skip

    assert code == 0
    assert [one["rounds"] for one in document["measured"]] == [10, 10]


def test_what_bench_measured_is_promoted_from_another_folder(
    shoal, networks, tmp_path, monkeypatch
):
    samples = tmp_path / "samples.json"
    monkeypatch.chdir(tmp_path)
    shoal("bench", "small.onnx", "--rounds", 2, "--samples", samples, "--json")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    moved, document, _ = shoal("promote", networks[0], "--samples", samples, "--json")
    other, _, changed = shoal("promote", networks[1], "--samples", samples, "--json")
    wrong, _, said = shoal(
        "promote", networks[0], "--samples", samples, "--target", "x86-openvino", "--json"
    )

    assert (moved, document["name"]) == (0, "small")
    assert (other, wrong) == (2, 2)
    assert "has changed since it was measured" in changed
    assert "give --target x86-cpu" in said


def test_two_models_of_one_name_stay_apart_in_every_file(shoal, networks, tmp_path):
    for folder, network in zip(("a", "b"), networks, strict=True):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.onnx").write_bytes(network.read_bytes())
    one, other = tmp_path / "a" / "net.onnx", tmp_path / "b" / "net.onnx"

    code, document, _ = shoal(
        "gate", "--baseline", one, "--candidate", one, "--baseline", one, "--candidate", other,
        "--rounds", 12, "--no-confirm", "--out", tmp_path / "gate", "--json",
    )  # fmt: skip

    assert code == 3
    assert [check["model"] for check in document["checks"]] == [
        str(tmp_path / "a" / "net"), str(tmp_path / "b" / "net"),
    ]  # fmt: skip
    assert document["checks"][1]["verdict"] == "FAIL"
    assert len(json.loads((tmp_path / "gate" / "bencher.json").read_text())) == 4


def test_an_absolute_gate_measures_the_candidate_alone(shoal, networks, tmp_path):
    small, large = networks
    shoal("promote", large, "--name", "net", "--json")

    code, document, _ = shoal(
        "gate", "--baseline", "net", "--candidate", small, "--rounds", 10, "--absolute",
        "--out", tmp_path / "gate", "--json",
    )  # fmt: skip

    assert code == 0
    assert document["checks"][0]["unit"] == "x of the stored baseline"


def test_numbers_of_an_unfit_host_enter_no_trend(shoal, networks, tmp_path, monkeypatch):
    monkeypatch.setattr(fitness, "DISTURBED_LIMIT", -1.0)

    code, document, _ = shoal(
        "gate", "--candidate", networks[0], "--budget", "1000ms", "--rounds", 7,
        "--out", tmp_path / "gate", "--json",
    )  # fmt: skip

    written = {one.name for one in (tmp_path / "gate").iterdir()}
    assert (code, document["verdict"]) == (4, "UNFIT")
    assert written == {"gate.json", "junit.xml", "summary.md"}
    assert '<skipped message="UNFIT' in (tmp_path / "gate" / "junit.xml").read_text()
