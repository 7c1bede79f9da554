"""The other verbs that measure, from the command line to the exit code, on real networks."""

import json

import pytest
from loopback_sshd import free_port

from profiles import fitness

pytestmark = pytest.mark.usefixtures("quick_and_calm")


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


def test_doctor_tries_to_reach_every_target(shoal, tmp_path, monkeypatch):
    """No name is looked up: every host is a port of this machine where nobody listens."""
    (tmp_path / "board.toml").write_text(
        'description = "one"\nruntime = "ort"\ntransport = "ssh"\nhost = "board"\n'
    )
    config = tmp_path / "ssh_config"
    config.write_text(f"Host *\n  HostName 127.0.0.1\n  Port {free_port()}\n")
    monkeypatch.setenv("SHOAL_TARGETS", str(tmp_path))
    monkeypatch.setenv("SHOAL_SSH_CONFIG", str(config))
    code, document, _ = shoal("doctor", "--json")

    assert code == 0
    assert "board" in document["targets"]
    assert "takes no ssh" in document["unreachable"]["board"]
    assert "x86-cpu" not in document["unreachable"]


def test_targets_are_listed(shoal):
    _, document, _ = shoal("targets", "--json")

    assert {"x86-cpu", "x86-openvino"} <= {one["name"] for one in document["targets"]}
