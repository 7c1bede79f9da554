from contextlib import contextmanager

import pytest

from profiles import rounds
from profiles.comparison import log_ratios, ratio
from profiles.host import Counters, between, idlest_cores, peak_bytes, read_counters
from profiles.rounds import Sampling, Trial, measure
from profiles.target import Target
from profiles.worker import Worker
from runtimes.errors import InputError

ORT = Target("x86-cpu", "ort")
NULL = Target("null", "null")
QUICK = {"block_s": 0.001, "min_runs": 5, "warm_up_s": 0.02}


def test_every_block_of_an_artifact_has_a_neighbouring_block_of_the_reference(make_network):
    paths = [make_network(f"{n}.onnx", convolutions=n) for n in (1, 2, 3)]

    reference, *others = measure(NULL, paths, rounds=3, seed=0, laps=2, **QUICK)

    by_pair = {(block.round, block.pair): block for block in reference.blocks}
    assert len(by_pair) == len(reference.blocks) == 3 * 2 * 2
    for other in others:
        assert len(other.blocks) == 3 * 2
        for block in other.blocks:
            assert {block.position, by_pair[block.round, block.pair].position} == {0, 1}


def test_the_order_inside_the_pairs_is_random_and_reproducible(make_network):
    paths = [make_network("a.onnx"), make_network("b.onnx")]

    def positions(seed):
        _, second = measure(NULL, paths, rounds=2, seed=seed, laps=20, **QUICK)
        return [block.position for block in second.blocks]

    assert positions(1) == positions(1)
    assert len(set(positions(1))) == 2


def test_a_measurement_holds_raw_samples_and_what_it_depends_on(make_network):
    (measured,) = measure(ORT, [make_network()], rounds=2, **QUICK)

    assert all(len(block.samples_ns) >= 5 for block in measured.blocks)
    assert measured.identity["providers"] == "CPUExecutionProvider"
    assert measured.identity["shapes"] == "1x3x12x12"
    assert measured.fingerprint.facts["hash_seed"] == "0"
    assert (measured.rounds[0].peak_bytes or 0) > 2**20
    assert len(measured.rounds) == 2


def test_the_slower_network_is_the_slower_one(make_network):
    paths = [make_network("a.onnx"), make_network("b.onnx", convolutions=12, channels=24)]

    first, second = measure(ORT, paths, rounds=6, seed=0, **QUICK)

    assert second.median_ms > first.median_ms
    assert ratio(second, first).lo > 1


def test_many_small_networks_share_their_rounds(make_network):
    paths = [make_network(f"{n}.onnx", convolutions=1 + n % 3) for n in range(30)]

    measured = measure(ORT, paths, rounds=1, **QUICK)

    assert len(measured) == 30
    assert all(len(log_ratios(one, measured[0])) == 1 for one in measured[1:])


def test_no_artifact_and_no_round_are_refused(make_network):
    with pytest.raises(InputError, match="at least one"):
        measure(NULL, [], rounds=1)
    with pytest.raises(InputError, match="0 rounds"):
        measure(NULL, [make_network()], rounds=0)


def test_progress_is_told_round_by_round(make_network):
    told = []

    measure(NULL, [make_network()], rounds=3, on_round=told.append, **QUICK)

    assert told == [1, 2, 3]


@pytest.mark.parametrize("steals", [0, 1, 99])
def test_a_disturbed_pair_is_repeated_and_kept_apart(make_network, steals, monkeypatch):
    """The worker's answers are real; the theft is added on the way."""
    monkeypatch.setattr(rounds, "PAUSE_S", 0)
    trial = Trial(
        NULL,
        [make_network("a.onnx"), make_network("b.onnx")],
        seed=0,
        sampling=Sampling(0.001, 5, 1, 0.01, 0.02),
        start=lambda _target: Thief(steals),
    )
    trial.round()

    first, second = trial.measurements()

    assert len(first.blocks) == len(second.blocks) == 1
    assert len(first.discarded) == len(second.discarded) == min(steals, rounds.REPEATS)
    assert bool(first.blocks[0].disturbances) == (steals > rounds.REPEATS)


class Thief(Worker):
    """A worker whose first blocks were robbed of time."""

    def __init__(self, steals):
        super().__init__()
        self.left = 2 * steals

    def ask(self, do, *, within_s, **request):
        answer = super().ask(do, within_s=within_s, **request)
        if do == "block":
            answer["disturbances"] = ["steal"] if self.left > 0 else []
            self.left -= 1
        return answer


def counters(**changed):
    calm = {"at_ns": 0, "steal_ns": 0, "waited_ns": 0, "throttled": 0, "core_throttle": 0,
            "preempted": 0, "clock_khz": None, "temperature_mc": None}  # fmt: skip
    return Counters(**{**calm, **changed})


@pytest.mark.parametrize(
    ("changed", "reasons"),
    [
        ({}, ()),
        ({"steal_ns": 200_000_000}, ("steal",)),
        ({"waited_ns": 200_000_000}, ("waiting for the core",)),
        ({"throttled": 1}, ("cgroup throttling",)),
        ({"core_throttle": 2}, ("thermal throttling",)),
        ({"steal_ns": 10_000_000}, ()),
        ({"steal_ns": None, "waited_ns": None, "throttled": None, "core_throttle": None}, ()),
    ],
)
def test_a_block_says_what_disturbed_it(changed, reasons):
    found = between(counters(), counters(at_ns=1_000_000_000, **changed))

    assert found.disturbances() == reasons


def test_this_hosts_counters_can_be_read():
    core = idlest_cores(1, over_s=0)

    found = between(read_counters(core), read_counters(core))

    assert found.wait_share is None or found.wait_share >= 0
    assert peak_bytes()


def test_the_files_that_cannot_be_measured_stop_before_any_worker(make_network):
    def never(_target):
        raise AssertionError("no worker is started")

    with pytest.raises(InputError, match="does not exist"):
        measure(NULL, [make_network().parent / "nothing.onnx"], start=never)


@pytest.mark.parametrize(("count", "said"), [(1, "measuring network.onnx"), (2, "2 networks")])
def test_who_waits_is_told_what_is_measured(make_network, monkeypatch, count, said):
    told = []

    @contextmanager
    def noted(_target, what, **_):
        told.append(what)
        yield

    monkeypatch.setattr(rounds, "lease", noted)
    measure(NULL, [make_network()] * count, rounds=1, warm_up_s=0.01)

    assert told[0].endswith(said)
