"""The verbs against a device behind ssh: the same documents as from this machine."""

import json
from dataclasses import replace

import pytest
from loopback_sshd import NEEDED, reachable, target_file
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.devices import bench
from pipeline.jobs.job import measured_on
from pipeline.plans import workbench
from profiles import remote
from profiles.remote import fingerprint_of_all
from profiles.rounds import Sampling
from profiles.target import Target, find_target
from runtimes.errors import NothingMeasured

pytestmark = NEEDED
RECIPE = """
name = "tiny"
seed = 0
threads = 1
verify = []

[model]
spec = "vgg8"
options = { width = 4 }

[data]
dataset = "digits"

[train]
epochs = 1
batch_size = 100
learning_rate = 0.05

[calibration]
images = 100

[plan]
kernels = [1]
rounds = 6
max_rounds = 1

[[targets]]
name = "device"
budget = "0.95x"

[finetune]
epochs = 1
batch_size = 100
learning_rate = 0.02
"""


@pytest.fixture(autouse=True)
def briefly_sampled(monkeypatch):
    """How precise the numbers are is no fact of these tests."""
    brief = Sampling(block_s=0.002, min_runs=5, warm_up_s=0.02, warm_up_cap_s=0.06)
    monkeypatch.setattr(bench, "ALONE", brief)
    monkeypatch.setattr(workbench, "FINISHED", brief)
    monkeypatch.setattr(workbench, "WARM_UP_S", brief.warm_up_s)


@pytest.fixture
def device(sshd, monkeypatch, tmp_path):
    target_file(tmp_path)
    monkeypatch.setenv("SHOAL_TARGETS", str(tmp_path))
    with reachable(sshd, monkeypatch):
        yield sshd


def document(*arguments, codes=(0,)):
    done = CliRunner().invoke(app, [*map(str, arguments), "--json", "--quiet"])
    assert done.exit_code in codes, (done.output, done.exception)
    return json.loads(done.stdout)


def test_bench(device, make_network):
    found = document("bench", make_network(), "--target", "device", "--rounds", 2, codes=(0, 4))

    assert found["median_ms"] > 0
    assert found["rounds"] == 2
    assert found["fingerprint"]["env SHOAL_CACHE"] == str(device.cache)


@pytest.mark.usefixtures("device")
def test_compare(make_network):
    fast, slow = make_network("a.onnx"), make_network("b.onnx", convolutions=9, channels=32)

    found = document("compare", fast, slow, "--target", "device", "--rounds", 7, codes=(3, 4))

    assert found["interval"][0] > 1


def test_plan(device, make_network):
    found = document("plan", make_network(convolutions=2),
                     "--target", "device", "--budget", "0.99x",
                     "--rounds", "2", "--max-rounds", "1", codes=(0, 3, 4))  # fmt: skip

    assert found["measured_ms"]["device"]["median_ms"] > 0
    assert found["targets"][0]["target"] == "device"
    assert found["fingerprint"]["env SHOAL_CACHE"] == str(device.cache)


@pytest.mark.usefixtures("device")
def test_doctor_proves_it():
    found = document("doctor", "--target", "device", "--prove")

    assert found["passed"]
    assert found["target"]["host"] == "device"


def written(workspace):
    """When each stage that is finished was."""
    stages = (path for path in workspace.glob("stages/*") if path.is_dir())
    return {str(path): path.stat().st_mtime_ns for path in stages}


@pytest.mark.slow
def test_compress_goes_on_after_a_lost_device_over_one_connection(device, tmp_path, monkeypatch):
    (tmp_path / "tiny.toml").write_text(RECIPE)
    job = ("compress", tmp_path / "tiny.toml", "--out", tmp_path / "work")
    leases, take = [], remote.Connection.try_lease

    def cutting(connection, what):
        leases.append(what)
        if len(leases) == 2:
            device.cut()
        return take(connection, what)

    monkeypatch.setattr(remote.Connection, "try_lease", cutting)
    done = CliRunner().invoke(app, [*map(str, job), "--json", "--quiet"])
    assert isinstance(done.exception, NothingMeasured)
    assert "`shoal compress --resume` goes on there" in str(done.exception)
    trained = written(tmp_path / "work")

    device.start()
    found = document(*job, "--resume", codes=(0, 3, 4))

    assert trained.items() <= written(tmp_path / "work").items()
    assert any("dense-" in path for path in trained)
    assert found["candidates"][0]["measured_ms"]["device"]["median_ms"] > 0
    assert device.log().count("Accepted publickey") == 2, "one connection for each run"
    assert device.agents() != []


def test_a_resumed_job_measures_anew_when_the_device_is_another(device):
    there = measured_on(find_target("device"))
    here = measured_on(Target("device", "ort"))

    assert there["host"] == here["host"], "it is this very machine"
    assert device.log().count("Accepted publickey") == 1, "and it was asked there"


def test_a_document_tells_the_host_of_every_target(device):
    board = find_target("device")

    facts = fingerprint_of_all([Target("here", "ort"), board, replace(board, name="again")]).facts

    assert facts["kernel"] == facts["device: kernel"]
    assert facts["device: env SHOAL_CACHE"] == str(device.cache)
    assert not any(name.startswith("again: ") for name in facts)
