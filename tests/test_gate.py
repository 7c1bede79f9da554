"""The verbs that measure, from the command line to the exit code, on real networks."""

import errno
import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from pipeline import bench, compare, console, gate, gating
from pipeline.__main__ import app
from profiles import fitness
from profiles.measurement import write_atomically
from profiles.rounds import Sampling

QUICK = Sampling(block_s=0.002, min_runs=10, laps=3, warm_up_s=0.02, warm_up_cap_s=0.04)


@pytest.fixture(autouse=True)
def quick_and_calm(monkeypatch, tmp_path):
    """Short blocks, and no verdict about the machine that the tests happen to run on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gating, "PAIRED", QUICK)
    monkeypatch.setattr(fitness, "DISTURBED_LIMIT", 1.0)
    monkeypatch.setattr(compare, "PAIRED", QUICK)
    monkeypatch.setattr(bench, "ALONE", replace(QUICK, block_s=0.0, laps=2))
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)


@pytest.fixture
def shoal(monkeypatch, capsys):
    """`shoal("bench", path)` gives (exit code, document or None, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["shoal", *(str(one) for one in arguments)])
        with pytest.raises(SystemExit) as ended:
            console.run(app)
        said = capsys.readouterr()
        document = json.loads(said.out) if said.out.startswith("{") else None
        return ended.value.code, document, said.err

    return run


@pytest.fixture
def networks(make_network):
    small = make_network("small.onnx", convolutions=2)
    large = make_network("large.onnx", convolutions=12, channels=24)
    return small, large


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
    assert list((tmp_path / "gate").iterdir()) == []


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


def test_bench_writes_its_samples_and_its_document(shoal, networks, tmp_path):
    samples = tmp_path / "samples.json"

    code, document, _ = shoal("bench", networks[0], "--rounds", 3, "--samples", samples, "--json")

    assert code == 0
    assert document["schema"] == "shoal.bench/1"
    assert document["rounds"] == 3
    assert document["p99_ms"] is None
    assert "too few" in document["tails"][2]["reason"]
    assert document["identity"]["batch"] == "1"
    assert len(json.loads(samples.read_text())["blocks"]) == 6


@pytest.mark.parametrize("target", ["x86-cpu", "x86-openvino"])
def test_layers_are_mapped_back_to_nodes_and_segments(shoal, networks, target):
    code, document, said = shoal(
        "bench", networks[1], "--rounds", 1, "--layers", "--target", target, "--json"
    )
    assert code == 0, said

    convolutions = [row for row in document["layers"]["layers"] if row["kind"].startswith("Conv")]
    assert len(convolutions) == 12
    assert all(row["node"] and row["segment"] for row in convolutions)
    assert sum(one["share"] for one in document["layers"]["segments"]) == pytest.approx(1)


def test_bench_on_an_unfit_host_ends_with_four(shoal, networks, monkeypatch):
    monkeypatch.setattr(fitness, "DISTURBED_LIMIT", -1.0)

    code, document, _ = shoal("bench", networks[0], "--rounds", 1, "--json")

    assert code == 4
    assert document["fitness"]["verdict"] == "unfit"


def test_an_unfit_host_takes_the_verdict_back(shoal, networks, monkeypatch):
    monkeypatch.setattr(fitness, "DISTURBED_LIMIT", -1.0)

    code, document, _ = shoal("compare", *networks, "--rounds", 7, "--json")

    assert code == 4
    assert document["verdict"] == "UNFIT"
    assert "it would have been FAIL" in document["reason"]


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


def test_nothing_is_promoted_from_an_unfit_host(shoal, networks, monkeypatch):
    monkeypatch.setattr(fitness, "DISTURBED_LIMIT", -1.0)

    code, _, said = shoal("promote", networks[0], "--json")

    assert code == 5
    assert "no baseline was stored" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bench", "nothing.onnx"], "does not exist"),
        (["bench", "{net}", "--target", "x86-cp"], "did you mean 'x86-cpu'"),
        (["bench", "{net}", "--batch", "4"], "fixed batch of 1"),
        (["bench", "{net}", "--precision", "int8"], "is fp32, not int8"),
        (["bench", "{net}", "--shape", "image"], "is not INPUT=SIZE"),
        (["compare", "{net}", "{net}", "--margin", "little"], "is no share"),
        (["gate", "--candidate", "{net}"], "nothing to check"),
        (["gate", "--baseline", "{net}"], "give one of each per model"),
        (["gate", "--candidate", "{net}", "--budget", "5 parsecs"], "is not a time"),
        (["gate", "--candidate", "{net}", "--budget", "0.5x"], "it needs --baseline"),
        (["gate", "--baseline", "nobody", "--candidate", "{net}"], "no baseline 'nobody'"),
        (["targets", "x86"], "no target named 'x86'"),
    ],
)
def test_what_a_user_got_wrong_is_one_line_and_exit_code_two(shoal, networks, arguments, said):
    code, document, told = shoal(*(one.format(net=networks[0]) for one in arguments), "--json")

    assert (code, document) == (2, None)
    assert said in told
    assert "Traceback" not in told
    assert len([line for line in told.splitlines() if line.startswith("shoal:")]) == 1


def test_doctor_proves_the_providers_by_running_them(shoal):
    code, document, _ = shoal("doctor", "--json")

    runtimes = {one["name"]: one for one in document["runtimes"]}
    assert code == 0
    assert runtimes["ort"]["providers"] == ["CPUExecutionProvider"]
    assert runtimes["ov"]["providers"] == ["CPU"]
    assert document["noise"]["spread"] >= 0


def test_targets_are_listed(shoal):
    _, document, _ = shoal("targets", "--json")

    assert {"x86-cpu", "x86-openvino"} <= {one["name"] for one in document["targets"]}
