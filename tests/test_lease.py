import multiprocessing
import os
import signal
import threading
import time

import pytest

from profiles.device_lock import holder, lock_file
from profiles.lease import lease
from profiles.rounds import measure
from profiles.target import Target
from runtimes.errors import NothingMeasured

LOCAL = Target("x86-cpu", "ort")
OTHER_RUNTIME = Target("x86-openvino", "ov")


def hold(held, target=LOCAL):
    with lease(target, "holding"):
        held.set()
        time.sleep(60)


@pytest.fixture
def owner():
    """Another process that holds the lease."""
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    process = context.Process(target=hold, args=(held,))
    process.start()
    assert held.wait(30)
    yield process
    process.kill()
    process.join()


def test_the_second_is_told_who_holds_it(owner):
    told = []

    with (
        pytest.raises(NothingMeasured, match=rf"process {owner.pid}, holding"),
        lease(LOCAL, "waiting", patience_s=0.3, say=told.append),
    ):
        pytest.fail("two hold one lease")

    assert len(told) == 1


@pytest.mark.usefixtures("owner")
def test_a_long_wait_is_told_again_and_how_long_it_has_been(monkeypatch):
    monkeypatch.setattr("profiles.lease.TELL_AGAIN_S", 0.25)
    told = []

    with (
        pytest.raises(NothingMeasured),
        lease(LOCAL, "waiting", patience_s=0.7, say=told.append),
    ):
        pytest.fail("two hold one lease")

    assert not told[0].endswith("so far")
    assert told[1].endswith("s so far")


def test_a_dead_owners_lease_is_free_at_once(owner):
    os.kill(owner.pid, signal.SIGKILL)
    owner.join()

    with lease(LOCAL, "next", patience_s=2):
        assert f"process {os.getpid()}, next" in holder(lock_file())


def test_the_second_gets_it_when_the_first_is_done(owner):
    threading.Timer(0.5, owner.kill).start()

    with lease(LOCAL, "patient", patience_s=30):
        assert not owner.is_alive()


def test_two_runtimes_on_one_cpu_share_the_lease(owner):
    with (
        pytest.raises(NothingMeasured),
        lease(OTHER_RUNTIME, "too early", patience_s=0.1),
    ):
        pytest.fail("two measure on one CPU")

    assert owner.is_alive()


def test_measuring_waits_for_the_lease(make_network):
    events = []

    def first():
        with lease(LOCAL, "first"):
            time.sleep(0.5)
            events.append("first is done")

    thread = threading.Thread(target=first)
    thread.start()
    time.sleep(0.1)
    null = Target("null", "null")
    measure(
        null, [make_network()], rounds=1, warm_up_s=0.01, say=lambda _: events.append("waiting")
    )
    thread.join()

    assert events == ["waiting", "first is done"]


def test_a_lease_is_given_back_after_an_error():
    with pytest.raises(ZeroDivisionError), lease(LOCAL, "failing"):
        raise ZeroDivisionError

    with lease(LOCAL, "next", patience_s=0):
        assert lock_file().exists()
