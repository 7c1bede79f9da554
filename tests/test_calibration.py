import io
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from pipeline.devices import calibrate as verb
from pipeline.reporting.progress import Reporter
from profiles.calibration import calibrate, power_at, rate, rounds_needed, summarise
from profiles.gate import Rule
from profiles.rounds import Sampling
from profiles.store import Store, registry_folder
from profiles.target import Target

RULE = Rule(margin=0.02, alpha=0.05, looks=(10,))


def rows(spread, gates=200):
    return np.random.default_rng(0).normal(0, spread, (gates, 10)).tolist()


def test_a_quiet_target_is_a_gate_and_a_noisy_one_a_tripwire():
    quiet = summarise(rows(0.005), RULE, target="t", model="m")
    noisy = summarise(rows(0.10), RULE, target="t", model="m")

    assert not quiet.tripwire_only
    assert noisy.tripwire_only
    assert quiet.noise_floor < 0.01 < noisy.noise_floor


def test_false_alarms_at_margin_zero_are_the_nominal_level():
    found = summarise(rows(0.01, gates=2000), RULE, target="t", model="m")

    assert found.false_alarms.events == 0
    assert found.false_alarms_at_zero.lo < 0.042 < found.false_alarms_at_zero.hi


def test_the_rounds_needed_reach_the_power_and_one_fewer_does_not():
    pool = np.random.default_rng(1).normal(0, 0.02, 400)

    needed = rounds_needed(pool, RULE, 0.05, 0.8, seed=0)

    assert needed is not None
    assert power_at(pool, RULE, 0.05, needed, seed=0) >= 0.8
    assert power_at(pool, RULE, 0.05, needed - 1, seed=0) < 0.8


def test_what_the_rounds_lean_to_by_chance_is_no_power():
    """The labels are flipped at random: only the effect may make a gate fail."""
    leaning = np.full(100, 0.05)

    assert power_at(leaning, RULE, 0.0, 12, seed=0) < 0.1


def test_an_effect_below_the_margin_is_never_seen_often_enough():
    assert rounds_needed(np.full(100, 0.0), RULE, 0.01, 0.8, seed=0) is None


def test_a_rate_has_its_exact_interval():
    found = rate(2, 40)

    assert found.share == 0.05
    assert found.lo < 0.05 < found.hi
    assert math.isclose(rate(0, 40).hi, 1 - 0.025 ** (1 / 40), rel_tol=1e-6)


def test_real_gates_of_a_network_against_itself_are_counted(make_network):
    told = []

    found = calibrate(
        Target("null", "null"), make_network(), gates=2, rule=Rule(0.02, 0.05, (5,)),
        sampling=Sampling(0.001, 20, 2, 0.01, 0.02), on_gate=told.append,
    )  # fmt: skip

    assert told == [1, 2]
    assert (found.gates, found.rounds_per_gate) == (2, 5)
    assert found.false_alarms.trials == 2
    assert all(math.isfinite(value) for row in found.gates_log_ratios for value in row)


@pytest.mark.parametrize(
    ("spread", "unfit", "said", "code"),
    [
        (0.005, 0, "a gate at margin 2.0%", 0),
        (0.10, 20, "TRIPWIRE ONLY at margin 2.0%", 0),
        (0.005, 21, "UNFIT", 4),
    ],
)
def test_the_table_says_what_the_target_is_worth(monkeypatch, spread, unfit, said, code):
    found = summarise(rows(spread, gates=40), RULE, target="board", model="m", unfit=unfit)
    monkeypatch.setattr(verb, "calibrate", lambda *_, **__: found)
    asked = {"gates": 40, "rounds": 10, "margin": 0.02, "alpha": 0.05, "seed": 0}

    document = verb.calibrate_target(
        Target("board", "null"), Path("m.onnx"), Reporter(quiet=True), **asked
    )

    console = Console(width=120, record=True, file=io.StringIO())
    console.print(verb.show_calibrate(document))
    text = console.export_text()
    assert said in text
    assert all(row in text for row in ("noise floor", "95% power at +3%", "80% power at +5%"))
    assert verb.exit_code(document) == code
    store = Store(registry_folder())
    assert (store.calibration("board") is None) == (code == 4)
    store.close()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_gives_the_same_answer(seed):
    pool = np.random.default_rng(1).normal(0, 0.02, 100)

    assert power_at(pool, RULE, 0.03, 12, seed) == power_at(pool, RULE, 0.03, 12, seed)
