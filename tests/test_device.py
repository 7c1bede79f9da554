"""Which device is watched, and whether it is as its target file has it."""

import sys

import pytest

from profiles import jetson
from profiles.agent import Agent
from profiles.device import Change, Watch, clock_note, find_device, unmet
from profiles.environment import Fingerprint, fingerprint
from profiles.nvml import Gpu
from profiles.readings import Reading, Told
from runtimes.base import make


@pytest.mark.parametrize(("runtime", "device"), [("ort", "cpu"), ("ov", "gpu"), ("null", "null")])
def test_a_plain_cpu_is_not_watched_and_imports_no_binding(monkeypatch, runtime, device):
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)

    assert find_device(runtime, device) is None
    assert "pynvml" not in sys.modules


@pytest.mark.parametrize(("runtime", "device"), [("trt", "gpu:1"), ("ort", "cuda"), ("trt", "gpu")])
def test_nvidias_devices_are_watched_through_nvml(runtime, device):
    assert isinstance(find_device(runtime, device), Gpu)


def test_a_jetson_is_watched_whatever_computes_on_it(monkeypatch):
    monkeypatch.setattr(jetson, "is_jetson", lambda: True)

    assert isinstance(find_device("ort", "cpu"), jetson.Jetson)


class Board:
    """A device that heats up: its clock falls from reading to reading."""

    def __init__(self):
        self.clocks = [1000, 1000, 700]

    def state(self):
        return Told({"power_mode": "MAXN", "clocks": None}, {"clocks": "not told"})

    def reading(self):
        clock = self.clocks.pop(0)
        return Reading(Told({"clock": clock}), clock=clock)


def test_its_state_is_in_the_fingerprint_with_its_reasons():
    known = fingerprint(Board())

    assert (known.facts["power_mode"], known.facts["clocks"]) == ("MAXN", None)
    assert known.missing["clocks"] == "not told"
    assert known.facts["machine"]


def test_two_power_modes_do_not_compare():
    slow, fast = Fingerprint({"power_mode": "15W"}), Fingerprint({"power_mode": "MAXN"})

    assert slow.difference(fast) == ("power_mode: 15W and MAXN",)


def test_the_clock_is_held_against_the_highest_seen():
    watch = Watch(Board())
    first = watch.between(watch.reading(), watch.reading())
    later = watch.between(Reading(Told({})), watch.reading())

    assert first.disturbances() == ()
    assert later.clock_share == 0.7
    assert later.disturbances() == ("the device's clock dropped",)


def test_a_counter_that_is_gone_after_the_block_tells_nothing():
    watch = Watch(Board())

    change = watch.between(Reading(Told({}), {"events": 3}), Reading(Told({})))

    assert change == Change({}, {}, {}, (), None)


def test_a_block_carries_what_the_device_did(make_network):
    agent = Agent()
    agent.runtime, agent.cores = make("null", "cpu"), (0,)
    agent.watch = Watch(Board())
    agent.watch.reading()
    wanted = {"path": str(make_network()), "key": "0", "batch": 1, "seed": 0, "shapes": {}}
    agent.load(wanted)

    answer = agent.block({"key": "0", "min_runs": 1, "min_s": 0})

    assert answer["surroundings"]["device"]["facts"] == {"clock": 700}
    assert "the device's clock dropped" in answer["disturbances"]


def clocks(*told):
    return [{"device": {"facts": {"gpu_clock_mhz": clock}}} for clock in told]


def test_a_gpus_clock_that_moved_is_told_and_so_is_what_would_keep_it():
    note = clock_note(clocks(1395, None, 1200), locked=True)

    assert note is not None
    assert note.startswith("the GPU's clock was between 1200 and 1395 MHz over the blocks, though")
    assert "nvidia-smi --lock-gpu-clocks" in note


@pytest.mark.parametrize("surroundings", [clocks(1395, 1395), clocks(None), [{}], []])
def test_a_clock_that_stayed_or_is_not_known_is_no_news(surroundings):
    assert clock_note(surroundings, locked=True) is None


@pytest.mark.parametrize(
    ("facts", "wrong"),
    [
        ({"power_mode": "MAXN", "clocks": "locked"}, []),
        ({"power_mode": "15W", "clocks": "locked"}, ["the power mode is 15W, not MAXN"]),
        ({"power_mode": "MAXN", "clocks": "not locked"}, ["the clocks are not locked"]),
        ({"power_mode": None}, ["the power mode is not known", "the clocks are not known"]),
    ],
)
def test_a_device_that_is_not_as_asked_says_how_to_set_it(facts, wrong):
    found = unmet({"power_mode": "MAXN", "clocks": "jetson_clocks"}, facts)

    assert len(found) == len(wrong)
    assert all(one.startswith(start) for one, start in zip(found, wrong, strict=True))
