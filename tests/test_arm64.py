"""The worker of a board on a board's processor: aarch64 under qemu, with the index's own wheels.

    python tests/arm64.py && pytest -m qemu

What it takes is qemu's time and means nothing; what it computes is the device's.
"""

import json
from pathlib import Path

import arm64
import numpy as np
import pytest
from loopback_sshd import SSHD, LoopbackSshd
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.devices import checking
from pipeline.devices.probes import stacked_network
from pipeline.reporting.progress import Reporter
from profiles import remote
from profiles.target import Target
from profiles.worker import Worker

pytestmark = pytest.mark.qemu
RUNTIMES = ["ort", "ov"]


@pytest.fixture(scope="module")
def board(request):
    """The script to be named as a target's python."""
    script = arm64.python()
    if script is None:
        why = "prepare it: apt-get install qemu-user-static, then python tests/arm64.py"
        if "qemu" in request.config.option.markexpr:
            pytest.fail(why)
        pytest.skip(why)
    return str(script)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return stacked_network(tmp_path_factory.mktemp("arm64") / "network.onnx")


def converse(python, runtime, network):
    """Every request that a measurement makes, answered."""
    with Worker(python=python) as worker:
        asked = {"runtime": runtime, "device": "cpu", "threads": 1, "cores": None, "settings": {}}
        answers = {"open": worker.ask("open", within_s=120, **asked)}
        wanted = {"key": "0", "path": str(network), "batch": 1, "seed": 0, "shapes": {}}
        answers["load"] = worker.ask("load", within_s=120, **wanted)
        for do, request in {
            "warm_up": {"at_least_s": 0, "at_most_s": 0},
            "block": {"min_runs": 5, "min_s": 0},
            "outputs": {},
        }.items():
            answers[do] = worker.ask(do, within_s=120, key="0", **request)
        answers["fingerprint"] = worker.ask("fingerprint", within_s=120)
        answers["close"] = worker.ask("close", within_s=120)
    return answers


@pytest.fixture(scope="module", params=RUNTIMES)
def conversation(request, board, network):
    return request.param, converse(board, request.param, network)


def test_the_worker_runs_on_aarch64(conversation):
    _, answers = conversation

    assert answers["fingerprint"]["facts"]["machine"] == "aarch64"


def test_a_block_there_is_timed_run_by_run(conversation):
    _, answers = conversation

    assert len(answers["block"]["samples_ns"]) == 5
    assert min(answers["block"]["samples_ns"]) > 0


def test_it_computes_what_this_machine_does(conversation, network):
    runtime, answers = conversation

    expected = np.array(converse(None, runtime, network)["outputs"]["y"])

    error = np.abs(np.array(answers["outputs"]["y"]) - expected).max()
    assert error <= 1e-5 * np.abs(expected).max()


def test_shoal_bench_measures_on_a_target_whose_python_is_a_board(
    board, network, tmp_path, monkeypatch
):
    target = f'runtime = "ort"\npython = "{board}"\n'
    (tmp_path / "board.toml").write_text(target)
    monkeypatch.setenv("SHOAL_TARGETS", str(tmp_path))
    command = ["bench", str(network), "--target", "board", "--rounds", "1", "--json"]

    done = CliRunner().invoke(app, command)

    document = json.loads(done.stdout)
    assert (document["target"], document["fingerprint"]["machine"]) == ("board", "aarch64")


@pytest.mark.skipif(not Path(SSHD).exists(), reason="no sshd here: apt-get install openssh-server")
def test_every_link_to_a_board_behind_ssh_holds(board, tmp_path, monkeypatch):
    monkeypatch.setattr(checking, "DISTURBED_LIMIT", 1.0)  # what else runs here is no fact of it
    target = Target("board", "ort", transport="ssh", host="device", python=board)

    with LoopbackSshd(tmp_path) as device:
        monkeypatch.setenv("SHOAL_SSH_CONFIG", str(device.config))
        document = checking.check(target, Reporter(quiet=True))
        remote.close_all()

    assert [link.detail for link in document.links if not link.holds] == []
    assert document.host["machine"] == "aarch64"
