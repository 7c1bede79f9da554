"""What goes wrong between a client and its device, done for real: cut, filled, replaced, silent."""

import os
import signal
import subprocess
import sys
import time
from threading import Timer

import numpy as np
import onnx
import pytest
from loopback_sshd import NEEDED, NULL, QUICK, interpreter, reachable
from onnx import TensorProto, helper, numpy_helper

from profiles import remote
from profiles.lease import lease
from profiles.remote_worker import RemoteWorker
from profiles.rounds import Sampling, Trial, measure, open_worker, start_worker
from profiles.target import Target
from runtimes.errors import NothingMeasured

pytestmark = NEEDED


@pytest.fixture
def device(sshd, monkeypatch):
    with reachable(sshd, monkeypatch):
        yield sshd
    if not sshd.running():
        sshd.start()


@pytest.fixture
def large_network(tmp_path):
    """A network of 1 MiB, beside its weights."""
    weight = numpy_helper.from_array(np.ones((512, 512), np.float32), "w")
    ports = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 512]) for name in ("x", "y")
    )
    x, y = ports
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "network", [x], [y], [weight])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    path = tmp_path / "network.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    return path


def until(condition, within_s=30):
    """Asked again and again: processes end when they end."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def free():
    """Nobody holds it: asked on the device itself."""
    remote.close_all()
    with lease(NULL, "next", patience_s=5):
        return True


def test_a_transfer_that_was_cut_goes_on_where_it_ended(device, large_network, monkeypatch):
    monkeypatch.setattr(remote, "PIECE_BYTES", 1 << 15)
    monkeypatch.setattr(remote, "IN_FLIGHT", 1)
    sent, split = [], remote._pieces

    def cutting(files, here):
        for number, piece in enumerate(split(files, here)):
            if number == 20 and not sent[20:]:
                device.cut()
            sent.append(len(piece[2]))
            yield piece

    monkeypatch.setattr(remote, "_pieces", cutting)
    with pytest.raises(NothingMeasured, match=r"was lost during 'piece'.*what was sent is kept"):
        measure(NULL, [large_network], **QUICK)
    before = len(sent)
    assert not list(device.cache.glob("artifacts/*/artifact.onnx.*"))
    assert [path.suffix for path in device.cache.glob("artifacts/*")] == [".partial"]

    device.start()
    measure(NULL, [large_network], **QUICK)

    assert 0 < sum(sent[before:]) < (1 << 20) - 10 * (1 << 15)
    assert [path.suffix for path in device.cache.glob("artifacts/*")] == [""]


def test_a_device_that_reboots_in_a_measurement_gives_no_number_and_works_afterwards(
    device, make_network
):
    class Cut(RemoteWorker):
        def ask(self, do, *, within_s, **request):
            if do == "block":
                Timer(0.2, device.cut).start()
            return super().ask(do, within_s=within_s, **request)

    trial = Trial(
        NULL,
        [make_network()],
        seed=0,
        sampling=Sampling(600, 5, 1, 0.01, 0.02),
        start=lambda target: Cut(remote.connection(target)),
    )
    with lease(NULL, "measuring"):
        with pytest.raises(NothingMeasured, match="connection to device was lost during 'block'"):
            trial.round()
        with pytest.raises(NothingMeasured, match="was lost"):
            trial.round()  # without the lease nothing more is measured under it

    assert (trial.done, trial.collected[0].blocks) == (0, [])
    device.start()
    assert free()
    assert measure(NULL, [make_network()], **QUICK)


CLIENT = """
import sys
from pathlib import Path
from profiles.rounds import measure
from profiles.target import Target
target = Target("device", "null", transport="ssh", host="device", python=sys.executable)
measure(target, [Path(sys.argv[1])], rounds=1, block_s=600, warm_up_s=0.01)
"""


def test_a_client_that_is_killed_leaves_no_worker_and_no_lease(device, make_network):
    client = subprocess.Popen([sys.executable, "-c", CLIENT, str(make_network())])
    until(lambda: len(device.agents()) > 1)

    client.kill()
    client.wait()

    until(lambda: device.agents() == [])
    assert free()


def test_a_connection_cut_on_the_clients_side_leaves_no_worker_and_no_lease(device):
    connection = remote.connection(NULL)
    connection.try_lease("measuring")
    with start_worker(NULL) as worker:
        open_worker(worker, NULL)

        os.kill(connection._ssh.process.pid, signal.SIGKILL)

        with pytest.raises(NothingMeasured, match="lost during 'fingerprint'"):
            worker.ask("fingerprint", within_s=10)
    until(lambda: device.agents() == [])
    connection.release()
    assert free()


@pytest.fixture
def small_disk(device, tmp_path):
    """A device whose disk takes 1 MiB, or whose files do where this is not root's to decide."""
    device.cache.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(device.cache)]
    if os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0:
        yield sys.executable
        remote.close_all()
        subprocess.run(["umount", str(device.cache)], check=True)
    else:
        yield interpreter(tmp_path, f'ulimit -f 1024\nexec {sys.executable} "$@"')


def test_a_full_disk_there_is_named_and_half_an_artifact_is_not_used(
    small_disk, device, large_network
):
    target = Target("device", "null", transport="ssh", host="device", python=small_disk)

    with pytest.raises(NothingMeasured, match=r"the disk of device did not take it: .*artifacts"):
        measure(target, [large_network], **QUICK)

    assert [path.suffix for path in device.cache.glob("artifacts/*")] == [".partial"]


def test_a_disk_with_no_room_for_the_agent_is_named(device, tmp_path):
    tight = interpreter(tmp_path, f'ulimit -f 1\nexec {sys.executable} "$@"')
    target = Target("device", "null", transport="ssh", host="device", python=tight)

    with pytest.raises(NothingMeasured, match="the agent cannot be written to"):
        start_worker(target)

    assert list((device.cache / "agents").iterdir()) == []
