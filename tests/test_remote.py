"""A device behind ssh, for real: OpenSSH's sshd on loopback and nothing of the user's touched."""

import shutil
import sys
from itertools import pairwise
from pathlib import Path
from threading import Thread

import pytest
from loopback_sshd import NEEDED, interpreter, reachable

from profiles import remote, remote_worker
from profiles.inspection import layers_of, outputs_of
from profiles.lease import lease
from profiles.rounds import measure, open_worker, start_worker
from profiles.target import Target
from runtimes.errors import InputError, NothingMeasured

pytestmark = NEEDED
DEVICE = Target("device", "ort", transport="ssh", host="device", python=sys.executable)
NULL = Target("device", "null", transport="ssh", host="device", python=sys.executable)
LOCAL = Target("x86-cpu", "ort")
QUICK = {"rounds": 1, "block_s": 0.001, "min_runs": 5, "warm_up_s": 0.01}


@pytest.fixture
def device(sshd, monkeypatch):
    with reachable(sshd, monkeypatch):
        yield sshd


def test_a_device_behind_ssh_is_measured_as_this_machine_is(device, make_network):
    (measured,) = measure(DEVICE, [make_network()], **QUICK)

    assert measured.blocks
    assert measured.identity["providers"] == "CPUExecutionProvider"
    assert measured.fingerprint.facts["env SHOAL_CACHE"] == str(device.cache)


def test_every_round_is_a_fresh_process_there_and_one_connection_for_all(device, make_network):
    pids = []

    def noted(target):
        pids.append(set(device.agents()))
        worker = start_worker(target)
        worker.ask("fingerprint", within_s=30)  # a process that answers has its name in /proc
        pids[-1] = set(device.agents()) - pids[-1]
        return worker

    start_worker(NULL).__exit__()
    measure(NULL, [make_network()], **{**QUICK, "rounds": 3}, start=noted)

    assert len(set().union(*pids)) == sum(len(one) for one in pids) == 3
    assert device.log().count("Accepted publickey") == 1
    assert len(device.agents()) == 1, "the agent; its workers are gone"


@pytest.mark.usefixtures("device")
def test_the_same_is_computed_there_as_here(make_network):
    network = make_network()

    assert outputs_of(DEVICE, network) == outputs_of(LOCAL, network)
    assert {layer.kind for layer in layers_of(DEVICE, network, runs=2)} >= {"Conv"}


@pytest.mark.usefixtures("device")
def test_an_artifact_is_sent_once(make_network, monkeypatch):
    network = make_network(channels=64)
    measure(NULL, [network], **QUICK)
    remote.close_all()
    pieces = counted_pieces(monkeypatch)

    measure(NULL, [network], **QUICK)

    assert pieces == []


def counted_pieces(monkeypatch):
    """The bytes of every piece that is sent from now on."""
    sizes, split = [], remote._pieces

    def counting(files, here):
        for piece in split(files, here):
            sizes.append(len(piece[2]))
            yield piece

    monkeypatch.setattr(remote, "_pieces", counting)
    return sizes


def test_an_artifact_damaged_there_is_sent_again(device, make_network):
    network = make_network()
    expected = outputs_of(DEVICE, network)
    remote.close_all()
    (kept,) = device.cache.glob("artifacts/*/artifact.onnx")
    kept.write_bytes(kept.read_bytes()[:-50] + bytes(50))

    assert outputs_of(DEVICE, network) == expected


@pytest.mark.usefixtures("device")
def test_an_error_there_names_the_file_here(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x08\x3a\x07\x0a\x05\x22\x03odd")

    with pytest.raises(InputError) as refused:
        outputs_of(DEVICE, broken)

    assert str(broken) in str(refused.value)
    assert "device" in str(refused.value)


def test_a_worker_that_hangs_there_is_ended_and_the_next_one_works(
    device, make_network, monkeypatch
):
    monkeypatch.setattr(remote_worker, "LATE_S", 0.0)
    place = str(make_network())

    with start_worker(NULL) as worker:
        open_worker(worker, NULL)
        worker.ask("load", within_s=30, key="0", path=place, batch=1, seed=0, shapes={})
        with pytest.raises(NothingMeasured, match="did not answer 'block' within 0 s"):
            worker.ask("block", within_s=0.1, key="0", min_runs=1, min_s=600)

    assert len(device.agents()) == 1
    assert measure(NULL, [make_network()], **QUICK)


def test_another_host_has_a_lease_of_its_own(device):
    with lease(LOCAL, "here"), lease(DEVICE, "there", patience_s=0):
        assert (device.leases / "local.lock").is_file()


@pytest.mark.usefixtures("device")
def test_the_second_is_told_who_holds_the_device():
    told = []

    with lease(DEVICE, "holding"):
        other = Target("other", "ort", transport="ssh", host="device2", python=sys.executable)
        with (
            pytest.raises(NothingMeasured, match="holding, since"),
            lease(other, "waiting", patience_s=0.3, say=told.append),
        ):
            pytest.fail("two hold one lease")

    assert len(told) == 1
    assert " at " in told[0], "the user at the client's machine"


def test_who_measures_on_the_device_itself_is_waited_for_too(device, monkeypatch):
    monkeypatch.setenv("SHOAL_LEASES", str(device.leases))

    with (
        lease(LOCAL, "sitting before it"),
        pytest.raises(NothingMeasured, match="sitting before it"),
        lease(DEVICE, "from afar", patience_s=0.1),
    ):
        pytest.fail("two hold one lease")


@pytest.mark.usefixtures("device")
def test_ten_clients_at_once_get_their_numbers_one_after_another(make_network):
    network = make_network()
    got, failures = [], []

    def client(number):
        target = Target(f"t{number}", "null", transport="ssh", host=f"device{number}",
                        python=sys.executable)  # fmt: skip
        try:
            got.extend(measure(target, [network], **{**QUICK, "rounds": 2}))
        except Exception as e:  # any: it would be lost in the thread
            failures.append(e)

    clients = [Thread(target=client, args=(number,)) for number in range(10)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()

    assert failures == []
    spans = sorted(
        (one.blocks[0].start_ns, one.blocks[-1].start_ns + sum(one.blocks[-1].samples_ns))
        for one in got
    )
    assert len(spans) == 10
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_an_interrupted_round_leaves_no_worker_and_no_lease(device, make_network):
    def interrupt(_done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(NULL, [make_network()], **QUICK, on_round=interrupt)

    assert len(device.agents()) == 1
    with lease(DEVICE, "next", patience_s=0):
        assert Path(device.leases / "local.lock").exists()


def test_nothing_is_left_there_when_the_session_ends(device, make_network):
    measure(NULL, [make_network()], **QUICK)

    remote.close_all()

    assert device.agents() == []


@pytest.mark.usefixtures("device")
def test_what_login_scripts_print_is_passed_over(tmp_path):
    greeting = interpreter(
        tmp_path, f'echo "Welcome to the board!"\nprintf "no end"\nexec {sys.executable} "$@"'
    )
    target = Target("device", "null", transport="ssh", host="device", python=greeting)

    with start_worker(target) as worker:
        assert open_worker(worker, target)["protocol"]


def test_sources_are_sent_once_and_lie_under_their_hash(device):
    for _ in range(2):
        with start_worker(NULL) as worker:
            open_worker(worker, NULL)
        remote.close_all()

    (folder,) = (device.cache / "agents").iterdir()
    assert len(folder.name) == 64
    shutil.rmtree(folder)
    with start_worker(NULL) as worker:
        assert open_worker(worker, NULL)
