import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import scipy.stats
from test_measurement import measurement

from profiles import checks
from profiles.checks import Check
from profiles.environment import Fingerprint
from profiles.gate import FAIL, INCONCLUSIVE, PASS, UNFIT, planned
from runtimes.errors import InputError


def latency(verdict, p_value, model="m"):
    return Check("latency", model, "t", verdict, "", 1.0, 1.02, "x", (0.9, 1.1), p_value)


def right(n, wrong):
    return np.arange(n) >= wrong


@pytest.mark.parametrize(
    ("candidate_wrong", "verdict"), [(1000, PASS), (1040, INCONCLUSIVE), (1500, FAIL)]
)
def test_accuracy_may_fall_by_the_margin(candidate_wrong, verdict):
    check = checks.accuracy(
        "m", right(10_000, 1000), right(10_000, candidate_wrong), margin=0.005, alpha=0.01
    )

    assert check.verdict == verdict


def test_accuracy_is_paired():
    """The same two accuracies: alike in every sample, or wrong in other ones."""
    a = right(10_000, 2500)
    alike = checks.accuracy("m", a, a, margin=0.005, alpha=0.01)
    others = checks.accuracy("m", a, a[::-1], margin=0.005, alpha=0.01)

    assert (alike.value, others.value) == (0, 0)
    assert alike.verdict == PASS
    assert others.verdict == INCONCLUSIVE


def test_predictions_of_other_samples_are_refused():
    with pytest.raises(InputError, match="same samples"):
        checks.accuracy("m", right(10, 1), right(11, 1), margin=0, alpha=0.01)


def test_the_loss_bounds_are_hardly_ever_wrong():
    noise = np.random.default_rng(0)
    n, lost, won = 400, 0.06, 0.03
    wrong = trials = 0
    for _ in range(400):
        b, c, _ = noise.multinomial(n, [lost, won, 1 - lost - won])
        low, high = checks.loss_bounds(int(b), int(c), n, 0.05)
        wrong += not low <= lost - won <= high
        trials += 1

    assert wrong / trials < 0.1 + 3 * math.sqrt(0.09 / trials)


def test_a_loss_without_a_gain_is_bounded_at_half_the_level_by_clopper_and_pearson():
    low, high = checks.loss_bounds(12, 0, 500, 0.05)

    share, at_least = (scipy.stats.binomtest(12, n).proportion_ci(0.95, "exact") for n in (500, 12))
    assert high == pytest.approx(share.high, abs=1e-6)
    assert low == pytest.approx(share.low * (2 * at_least.low - 1), abs=1e-6)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (50, 1000)])
def test_shares_are_bounded_as_clopper_and_pearson_do(k, n):
    interval = scipy.stats.binomtest(k, n).proportion_ci(0.9, "exact")

    assert checks.lower_share(k, n, 0.05) == pytest.approx(interval.low, abs=1e-6)
    assert checks.upper_share(k, n, 0.05) == pytest.approx(interval.high, abs=1e-6)


@pytest.mark.parametrize(("off", "verdict"), [(0.0, PASS), (1e-5, PASS), (0.1, FAIL)])
def test_drift_is_relative_to_the_outputs(off, verdict):
    ours = {"y": [1.0, -2.0, 3.0]}
    theirs = {"y": [1.0 + off, -2.0, 3.0]}

    check = checks.drift("m", ("a", "b"), (ours, theirs), limit=1e-3)

    assert check.verdict == verdict
    assert "cosine" in check.reason


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("broken", ["a", "b"])
def test_outputs_that_are_not_finite_fail_with_figures_that_are(value, broken):
    whole, bad = {"y": [1.0, 2.0]}, {"y": [1.0, value]}
    outputs = (bad, whole) if broken == "a" else (whole, bad)

    check = checks.drift("m", ("a", "b"), outputs, limit=1e-3)

    assert (check.verdict, check.value, check.limit) == (FAIL, 0.5, 0.0)
    assert check.reason == f"outputs are not finite: 1 of 2 on {broken}"
    json.dumps(asdict(check), allow_nan=False)


def test_outputs_of_another_size_do_not_compare():
    with pytest.raises(InputError, match="1 and 2 values"):
        checks.drift("m", ("a", "b"), ({"y": [1.0]}, {"y": [1.0, 2.0]}), limit=1)


def test_a_fail_that_does_not_survive_the_number_of_tests_is_none():
    many = [latency(FAIL, 0.004, "one"), *(latency(PASS, 0.5, f"{n}") for n in range(9))]

    alone, among = checks.corrected(many[:1], 0.01), checks.corrected(many, 0.01)

    assert alone[0].verdict == FAIL
    assert among[0].verdict == INCONCLUSIVE
    assert "among 10 latency checks" in among[0].reason


def test_two_models_of_one_name_fall_or_stand_each_alone():
    same_name = [latency(FAIL, 0.004), latency(FAIL, 0.009), latency(PASS, 0.9)]

    assert [check.verdict for check in checks.corrected(same_name, 0.01)] == [
        INCONCLUSIVE, INCONCLUSIVE, PASS,
    ]  # fmt: skip
    assert [check.verdict for check in checks.corrected(same_name[:2], 0.01)] == [FAIL, FAIL]
    surest = [replace(same_name[0], p_value=0.001), same_name[1], same_name[2]]
    assert [check.verdict for check in checks.corrected(surest, 0.01)] == [
        FAIL, INCONCLUSIVE, PASS,
    ]  # fmt: skip


def test_the_kinds_of_check_are_families_of_their_own():
    one = latency(FAIL, 0.004)
    budgets = [replace(one, kind="budget", p_value=0.9, verdict=PASS)] * 9

    assert checks.corrected([one, *budgets], 0.01)[0].verdict == FAIL


def test_the_worst_verdict_counts():
    assert checks.overall([latency(PASS, 1), latency(UNFIT, 1), latency(FAIL, 0)]) == FAIL
    assert checks.overall([latency(PASS, 1), latency(INCONCLUSIVE, 1)]) == INCONCLUSIVE
    with pytest.raises(InputError, match="nothing to check"):
        checks.overall([])


@pytest.mark.parametrize(("scale", "verdict"), [(0.1, PASS), (1.0, INCONCLUSIVE), (30.0, FAIL)])
def test_a_stored_baseline_compares_by_intervals_that_are_apart(scale, verdict):
    check = checks.against_stored(
        measurement("b.onnx", scale), measurement(), margin=0.02, alpha=0.01
    )

    assert check.verdict == verdict


def test_an_unfit_host_has_no_verdict_against_a_stored_baseline():
    disturbed = measurement("b.onnx", 30.0, disturbed=30)

    check = checks.against_stored(disturbed, measurement(), margin=0.02, alpha=0.01)

    assert check.verdict == UNFIT
    assert "would have been FAIL" in check.reason


def test_a_stored_baseline_of_another_host_is_refused():
    elsewhere = replace(measurement(), fingerprint=Fingerprint({"cores": 64}))

    with pytest.raises(InputError, match=r"cores: 2 and 64.*--absolute"):
        checks.against_stored(measurement(), elsewhere, margin=0.02, alpha=0.01)


@pytest.mark.parametrize(
    ("rounds", "looks"),
    [(20, (10, 15, 20)), (12, (10, 12)), (10, (10,)), (5, (5,)), (30, (10, 15, 20, 30))],
)
def test_looks_are_planned_where_they_can_decide(rounds, looks):
    assert planned(0.02, 0.01, rounds).looks == looks


@pytest.mark.parametrize(
    ("margin", "alpha", "rounds"), [(-0.1, 0.01, 10), (0.02, 0.7, 10), (0.02, 0.01, 0)]
)
def test_a_rule_that_makes_no_sense_is_refused(margin, alpha, rounds):
    with pytest.raises(InputError):
        planned(margin, alpha, rounds)
