"""What a worker may do wrong, done for real: die, hang, babble, crash in native code."""

import os
import signal
import sys
import threading
import time
from dataclasses import replace

import pytest

from profiles.agent import LONGEST_LINE, Agent
from profiles.rounds import Sampling, Trial, measure
from profiles.target import Target
from profiles.worker import Worker
from runtimes.errors import InputError, NothingMeasured, RuntimeUnavailable

NULL = Target("null", "null")
QUICK = Sampling(block_s=0.001, min_runs=5, laps=2, warm_up_s=0.01, warm_up_cap_s=0.02)


def opened(worker, runtime="null"):
    cores = sorted(os.sched_getaffinity(0))[:1]
    worker.ask("open", within_s=30, runtime=runtime, device="cpu", threads=1, cores=cores)
    return worker


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_that_is_killed_in_the_middle_gives_an_error_and_no_number(make_network):
    with Worker() as worker:
        opened(worker)
        path = str(make_network())
        worker.ask("load", within_s=30, key="0", path=path, batch=1, seed=0, shapes={})
        killer = threading.Timer(0.2, os.kill, (worker.pid, signal.SIGKILL))
        killer.start()

        with pytest.raises(NothingMeasured, match=r"died during 'block' \(signal SIGKILL"):
            worker.ask("block", within_s=30, key="0", min_runs=1, min_s=0.9)

        killer.join()


def test_a_worker_that_hangs_is_ended_after_our_patience():
    with Worker() as worker:
        opened(worker)
        os.kill(worker.pid, signal.SIGSTOP)
        started = time.monotonic()

        with pytest.raises(NothingMeasured, match="did not answer 'fingerprint' within 1 s"):
            worker.ask("fingerprint", within_s=1)

        assert time.monotonic() - started < 5
        assert not alive(worker.pid)


CRASH = """
import os
import runtimes.null
from profiles import agent
runtimes.null.NullSession.run = lambda self: os.abort()
agent.main()
"""
RAISE = """
import runtimes.null
from profiles import agent
def run(self):
    raise MemoryError("no memory for the workspace")
runtimes.null.NullSession.run = run
agent.main()
"""
BACKWARDS = """
import profiles.sampling, itertools
from profiles import agent
times = itertools.count(10**9, -1)
profiles.sampling.time_block.__kwdefaults__["clock"] = lambda: next(times)
agent.main()
"""
BABBLE = "print('hello, I am an SDK', flush=True); import time; time.sleep(60)"
NOISY = """
import os
import runtimes.null
from profiles import agent
runtimes.null.NullSession.run = lambda self: print("loading kernels", flush=True)
agent.main()
"""


def start(script):
    return lambda _target: Worker((sys.executable, "-c", script))


@pytest.mark.parametrize(
    ("script", "match"),
    [
        (CRASH, r"died during 'load' \(signal SIGABRT"),
        (RAISE, "MemoryError: no memory for the workspace"),
        (BACKWARDS, "the clock went back"),
        (BABBLE, "answered 'open' with b'hello, I am an SDK'"),
    ],
    ids=["native crash", "runtime error", "clock", "nonsense"],
)
def test_a_failing_runtime_gives_an_error_and_no_number(make_network, script, match):
    with pytest.raises(NothingMeasured, match=match):
        measure(NULL, [make_network()], rounds=1, warm_up_s=0.01, start=start(script))


def test_what_an_sdk_prints_does_not_disturb_the_answers(make_network):
    (measured,) = measure(NULL, [make_network()], rounds=1, warm_up_s=0.01, start=start(NOISY))

    assert measured.blocks


def test_the_worker_is_gone_when_the_round_fails(make_network):
    workers = []

    def remember(target):
        workers.append(start(CRASH)(target))
        return workers[-1]

    with pytest.raises(NothingMeasured):
        measure(NULL, [make_network()], rounds=1, start=remember)

    assert not alive(workers[0].pid)


LATE_CRASH = """
import itertools, os
import runtimes.null
from profiles import agent
runs = itertools.count()
runtimes.null.NullSession.run = lambda self: os.abort() if next(runs) > 5000 else None
agent.main()
"""


def test_a_round_that_failed_leaves_nothing_behind_in_the_trial(make_network):
    sampling = replace(QUICK, min_runs=500, laps=20)
    trial = Trial(NULL, [make_network()], seed=0, sampling=sampling, start=start(LATE_CRASH))
    with pytest.raises(NothingMeasured):
        trial.round()

    trial.start = lambda _target: Worker()
    trial.round()

    (measured,) = trial.measurements()
    assert len(measured.rounds) == trial.done == 1


def test_an_interpreter_that_is_not_there_is_named():
    with pytest.raises(RuntimeUnavailable, match="check the target's `python`"):
        Worker(python="/nowhere/python")


def test_a_refusal_in_the_worker_is_the_users_error_here():
    with Worker() as worker, pytest.raises(InputError, match="no runtime named 'nil'"):
        opened(worker, "nil")


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("not json", "request"),
        ("[]", "request"),
        ('{"do": "dance"}', "input"),
        ('{"do": "block", "key": "nobody"}', "request"),
        ('{"do": "load"}', "input"),
    ],
)
def test_a_request_that_makes_no_sense_is_answered_with_an_error(line, kind):
    assert Agent().answer(line)["error"]["kind"] == kind


def test_an_oversized_line_is_refused():
    with Worker() as worker, pytest.raises(NothingMeasured, match="line too long"):
        worker.ask("open", within_s=30, runtime="x" * LONGEST_LINE)


def test_a_client_that_went_away_is_not_waited_for():
    with Worker() as worker:
        opened(worker)
        pipe = worker._process.stdin
        assert pipe is not None
        pipe.close()

        assert worker._process.wait(timeout=10) == 0


def test_a_folder_of_the_users_does_not_stand_in_for_ours(tmp_path, monkeypatch):
    for name in ("profiles", "runtimes", "numpy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not ours')")
    monkeypatch.chdir(tmp_path)

    with Worker() as worker:
        assert opened(worker)
