"""What whole plans measured, against what their options were reckoned to change."""

import pytest

from pipeline.planning import LatencyTable, Limit
from pipeline.plans.correction import SCALE_LIMITS, corrected
from profiles.statistics import Estimate

SAVED = {"a": -1.0, "b": -2.0, "c": -1.0}


def around(value: float, arm: float = 0.0) -> Estimate:
    return Estimate(value, value - arm, value + arm, 0.95)


def table(arms: dict[str, float]) -> LatencyTable:
    differences = {id_: around(ms, arms.get(id_, 0.0)) for id_, ms in SAVED.items()}
    return LatencyTable("x86-cpu", around(10.0), differences)


LIMIT = Limit("x86-cpu", 10.0, SAVED, 8.0)


def after(*plans: tuple[str, float], arm: float = 0.0, arms: dict[str, float] | None = None):
    """`("ab", 8.5)`: the plan of a and b measured 8.5 of 10 ms."""
    sets = [frozenset(options) for options, _ in plans]
    ratios = [around(ms / 10.0, arm) for _, ms in plans]
    return corrected(LIMIT, table(arms or {}), sets, ratios)


def test_what_was_measured_is_what_is_then_predicted():
    found = after(("ab", 8.5)).differences_ms

    assert 10.0 + found["a"] + found["b"] == pytest.approx(8.5)


def test_an_option_that_was_never_tried_follows_the_scale():
    assert after(("ab", 8.5)).differences_ms["c"] == pytest.approx(-0.5)


def test_what_the_scale_leaves_is_the_options_own():
    """Twice with b and once without: b alone fell short."""
    found = after(("b", 9.0), ("a", 9.0), ("c", 9.0)).differences_ms

    assert found["a"] == pytest.approx(-1.0, abs=0.01)
    assert found["b"] == pytest.approx(-1.0, abs=0.01)


def test_the_residual_goes_to_the_option_that_was_measured_worst():
    found = after(("ac", 8.4), ("b", 8.0), arms={"a": 0.5}).differences_ms

    assert abs(found["a"] + 0.9) > 5 * abs(found["c"] + 0.9)


def test_a_noisy_plan_moves_an_option_less():
    exact = after(("b", 8.0), ("a", 9.5)).differences_ms["a"]
    noisy = after(("b", 8.0), ("a", 9.5), arm=0.05).differences_ms["a"]

    assert exact > noisy > -1.0 * SCALE_LIMITS[1]


def test_one_absurd_plan_does_not_turn_the_table_over():
    assert after(("ab", 30.0)).differences_ms["c"] == pytest.approx(-SCALE_LIMITS[0])


def test_a_scale_that_drowns_in_noise_is_not_believed():
    """As when a neighbour runs beside one of two networks: 8 ms less, give or take 9."""
    clear, drowned = (after(("ab", 2.0), arm=arm).differences_ms["c"] for arm in (0.01, 0.9))

    assert clear < -2.4
    assert drowned == pytest.approx(-1.0, abs=0.5)


def test_of_two_plans_the_clearer_one_sets_the_scale():
    plans, ratios = [frozenset("a"), frozenset("b")], [around(0.9, 0.005), around(0.2, 0.5)]

    found = corrected(LIMIT, table({}), plans, ratios)

    assert found.differences_ms["c"] == pytest.approx(-1.0, abs=0.1)


def test_the_budget_leaves_room_for_the_arm_of_the_interval():
    assert after(("ab", 8.0), arm=0.08).budget_ms == pytest.approx(8.0 / 1.1)


def test_without_a_plan_the_table_stands():
    assert corrected(LIMIT, table({}), [], []) == LIMIT
