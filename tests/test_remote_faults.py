"""What goes wrong between a client and its device, done for real: cut, filled, replaced, silent."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from threading import Timer

import numpy as np
import onnx
import pytest
from loopback_sshd import NEEDED, LoopbackSshd, make_key, reachable
from onnx import TensorProto, helper, numpy_helper

from profiles import greeting, remote, ssh
from profiles.lease import lease
from profiles.remote_worker import RemoteWorker
from profiles.rounds import Sampling, Trial, measure, open_worker, start_worker
from profiles.target import Target
from runtimes.errors import InputError, NothingMeasured, RuntimeUnavailable

pytestmark = NEEDED
NULL = Target("device", "null", transport="ssh", host="device", python=sys.executable)
QUICK = {"rounds": 1, "block_s": 0.001, "min_runs": 5, "warm_up_s": 0.01}


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    with LoopbackSshd(tmp_path_factory.mktemp("device")) as device:
        yield device


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
        yield script(tmp_path, f'ulimit -f 1024\nexec {sys.executable} "$@"')


def script(folder, lines):
    """An interpreter that does something else first."""
    path = folder / "python there"
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return str(path)


def test_a_full_disk_there_is_named_and_half_an_artifact_is_not_used(
    small_disk, device, large_network
):
    target = Target("device", "null", transport="ssh", host="device", python=small_disk)

    with pytest.raises(NothingMeasured, match=r"the disk of device did not take it: .*artifacts"):
        measure(target, [large_network], **QUICK)

    assert [path.suffix for path in device.cache.glob("artifacts/*")] == [".partial"]


def test_a_disk_with_no_room_for_the_agent_is_named(device, tmp_path):
    tight = script(tmp_path, f'ulimit -f 1\nexec {sys.executable} "$@"')
    target = Target("device", "null", transport="ssh", host="device", python=tight)

    with pytest.raises(NothingMeasured, match="the agent cannot be written to"):
        start_worker(target)

    assert list((device.cache / "agents").iterdir()) == []


def test_another_host_key_is_refused_before_anything_is_said(device, tmp_path):
    make_key(tmp_path / "other")
    kind, key, *_ = (tmp_path / "other.pub").read_text().split()
    known = tmp_path / "known_hosts"
    known.write_text(f"device {kind} {key}\n")
    device.write_client_config(UserKnownHostsFile=str(known))

    with pytest.raises(InputError, match="the host key of 'device' is not the one that is known"):
        start_worker(NULL)

    assert "Accepted" not in device.log()
    assert not device.cache.exists()


def test_an_unknown_host_key_is_not_taken_on_trust(device, tmp_path):
    device.write_client_config(UserKnownHostsFile=str(tmp_path / "none"))

    with pytest.raises(InputError, match="not known here: connect once by hand"):
        start_worker(NULL)

    assert not (tmp_path / "none").exists()


def test_a_key_that_is_not_let_in_is_named(device, tmp_path):
    make_key(tmp_path / "other")
    device.write_client_config(IdentityFile=str(tmp_path / "other"))

    with pytest.raises(InputError, match="does not let you in without a password: ssh-copy-id"):
        start_worker(NULL)


def test_an_agent_of_another_version_is_named_and_what_to_do(device):
    with start_worker(NULL) as worker:
        open_worker(worker, NULL)
    remote.close_all()
    (folder,) = (device.cache / "agents").iterdir()
    agent = folder / "profiles" / "remote_agent.py"
    agent.write_text(agent.read_text().replace("PROTOCOL = 1", "PROTOCOL = 222"))

    with pytest.raises(
        InputError, match=rf"another version \(protocol 222,.*ssh device rm -r {folder}"
    ):
        start_worker(NULL)

    shutil.rmtree(folder)
    assert start_worker(NULL)


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        (None, r"has no interpreter '/nowhere/python'.*set `python` in the target file"),
        ('exec {python} -S "$@"', "has no numpy: ssh device .* -m pip install numpy"),
        (
            "exec {python} -c 'import sys; sys.version_info = (3, 8, 10); code = sys.argv[2]; "
            'del sys.argv[1:3]; exec(code)\' "$@"',
            "is Python 3.8.10 .* needs 3.10 or newer",
        ),
    ],
    ids=["missing", "no numpy", "too old"],
)
@pytest.mark.usefixtures("device")
def test_an_interpreter_there_that_will_not_do_is_named(tmp_path, lines, match):
    python = script(tmp_path, lines.format(python=sys.executable)) if lines else "/nowhere/python"
    target = Target("device", "null", transport="ssh", host="device", python=python)

    with pytest.raises(RuntimeUnavailable, match=match):
        start_worker(target)


@pytest.mark.usefixtures("device")
def test_a_runtime_that_is_missing_there_is_named():
    target = Target("device", "trt", transport="ssh", host="device", python=sys.executable)

    with (
        start_worker(target) as worker,
        pytest.raises(RuntimeUnavailable, match=r"device: runtime 'trt' is not installed here"),
    ):
        open_worker(worker, target)


@pytest.mark.usefixtures("device")
def test_a_device_that_hangs_after_the_login_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(greeting, "HELLO_WITHIN_S", 1.0)
    target = Target("device", "null", transport="ssh", host="device",
                    python=script(tmp_path, "exec sleep 600"))  # fmt: skip

    with pytest.raises(ssh.Unreachable, match=r"let us in but did not start .* within 1 s"):
        start_worker(target)


def test_a_host_that_does_not_answer_is_given_up(device, monkeypatch):
    monkeypatch.setitem(ssh.OPTIONS, "ConnectTimeout", "1")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        device.write_client_config(Port=str(silent.getsockname()[1]))

        with pytest.raises(ssh.Unreachable, match="'device' does not answer: is it on"):
            start_worker(NULL)


def test_a_machine_without_ssh_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(RuntimeUnavailable, match="apt-get install openssh-client"):
        start_worker(NULL)


def test_a_host_that_ssh_does_not_know_is_named(tmp_path, monkeypatch):
    config = tmp_path / "config"
    config.write_text("Host *\n  ProxyCommand none\n  HostName no..name\n")
    monkeypatch.setenv("SHOAL_SSH_CONFIG", str(config))

    with pytest.raises(ssh.Unreachable, match=r"there is no host 'bord'.*target file's `host`"):
        start_worker(Target("board", "null", transport="ssh", host="bord"))


@pytest.mark.parametrize("host", ["-oProxyCommand=touch /tmp/x", " board"])
def test_a_host_that_would_be_an_option_is_refused(host):
    with pytest.raises(InputError, match="host is a name that ssh knows"):
        Target("board", "null", transport="ssh", host=host)


def test_a_path_in_the_users_home_there_may_begin_with_a_tilde():
    assert ssh.shell_word("~/my venv/bin/python") == "~/'my venv/bin/python'"
    assert ssh.shell_word("/opt/it's/python") == "'/opt/it'\"'\"'s/python'"


@pytest.mark.parametrize("sign", ssh.REMEDIES)
def test_ssh_is_quoted_beside_the_remedy(sign):
    told = ssh.explained("board", 255, f"ssh: {sign}\nssh: more")

    assert told.endswith(f"(ssh said: ssh: {sign} ssh: more)")


def test_an_ssh_that_ends_without_a_word_is_told_by_its_exit_code():
    assert "exit code 255 and said nothing" in ssh.explained("board", 255, "")
