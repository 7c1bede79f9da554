import math
from dataclasses import replace

import numpy as np
import pytest
from test_measurement import measurement

from pipeline.feedback import Measured
from profiles.budget import parse_budget
from profiles.budget_rounds import decide_budget, fit_or_not, looks_from, measure_against
from profiles.fitness import judge
from profiles.gate import FAIL, INCONCLUSIVE, PASS, UNFIT, Rule
from profiles.measurement import Block
from profiles.rounds import Sampling
from profiles.statistics import signed_rank_interval
from profiles.target import Target
from runtimes.errors import InputError

RULE = Rule(margin=0.02, alpha=0.01, looks=(10,))
QUICK = Sampling(block_s=0.001, min_runs=5, laps=2, warm_up_s=0.01, warm_up_cap_s=0.02)
NULL = Target("null", "null")


def lasting(*medians_ms):
    """One block per round of that median."""
    blocks = tuple(Block(n, 0, 0, 0, (round(ms * 1e6),)) for n, ms in enumerate(medians_ms))
    one = measurement(rounds=len(medians_ms))
    return replace(one, blocks=blocks)


def verdict(budget, measured, reference=None, rule=RULE):
    return decide_budget(measured, parse_budget(budget), rule, reference=reference or measured)


@pytest.mark.parametrize(
    ("budget", "told"), [("10.5ms", PASS), ("0.5ms", FAIL), ("5ms", INCONCLUSIVE)]
)
def test_the_budget_is_met_by_the_upper_bound_only(budget, told):
    assert verdict(budget, measurement()).verdict == told


@pytest.mark.parametrize(
    ("budget", "told"), [("0.61x", PASS), ("0.59x", FAIL), ("0.6x", INCONCLUSIVE)]
)
def test_a_relative_budget_is_judged_in_pairs_whatever_the_host_did(budget, told):
    """The rounds' own speeds differ tenfold: unpaired medians could say nothing."""
    dense = [1 + n for n in range(10)]
    shallow = [(0.6 + 0.0005 * (-1) ** n) * ms for n, ms in enumerate(dense)]

    decision = verdict(budget, lasting(*shallow), lasting(*dense))

    assert decision.verdict == told
    assert decision.unit == "x of the baseline"


def test_too_few_rounds_cannot_meet_a_budget():
    decision = verdict("100ms", measurement(rounds=6))

    assert decision.verdict == INCONCLUSIVE
    assert "7 are needed" in decision.reason


def test_a_budget_is_not_met_on_an_unfit_host():
    disturbed = measurement(disturbed=30)

    decision = fit_or_not(verdict("100ms", disturbed), judge([disturbed]))

    assert decision.verdict == UNFIT
    assert "would have been PASS" in decision.reason


@pytest.mark.parametrize("budget", ["1ms", "0.5x"])
def test_wrong_verdicts_over_all_looks_are_as_rare_as_alpha(budget):
    """A network exactly at its budget: every PASS and every FAIL is wrong."""
    noise = np.random.default_rng(0)
    rule, trials = Rule(0.02, 0.1, (10, 15, 20)), 400
    wrong = {PASS: 0, FAIL: 0}
    for _ in range(trials):
        speeds = noise.lognormal(0, 0.3, 20)
        shallow = lasting(*speeds * noise.lognormal(0, 0.02, 20))
        dense = lasting(*2 * speeds)
        for look in rule.looks:
            some = [replace(one, blocks=one.blocks[:look], rounds=one.rounds[:look])
                    for one in (shallow, dense)]  # fmt: skip
            told = verdict(budget, *some, rule=rule).verdict
            if told != INCONCLUSIVE:
                wrong[told] += 1
                break

    most = rule.alpha + 3 * math.sqrt(rule.alpha * (1 - rule.alpha) / trials)
    assert 0 < wrong[PASS] / trials < most
    assert 0 < wrong[FAIL] / trials < most


def test_more_looks_are_paid_for():
    """Nine of ten rounds inside: enough at the whole alpha, not at a third of it."""
    nearly = lasting(*[1.0] * 9, 3.0)

    assert verdict("2ms", nearly, rule=Rule(0.02, 0.02, (10,))).verdict == PASS
    assert verdict("2ms", nearly, rule=Rule(0.02, 0.02, (10, 15, 20))).verdict == INCONCLUSIVE


def test_the_p_value_and_the_verdict_say_the_same():
    slow = verdict("0.5ms", measurement(), rule=Rule(0.02, 0.01, (10, 15, 20)))

    assert slow.verdict == FAIL
    assert slow.p_value == pytest.approx(3 / 2**10)


def test_rounds_end_at_the_look_that_decides(make_network):
    told = []

    done = measure_against(
        NULL, [make_network()], parse_budget("1000ms"), rule=Rule(0.02, 0.3, (3, 6)),
        sampling=QUICK, on_round=told.append,
    )  # fmt: skip

    assert told == [1, 2, 3]
    assert done.rounds == 3


def test_rounds_go_on_while_the_budget_is_open(make_network):
    network = make_network()

    done = measure_against(
        NULL, [network, network], parse_budget("1x"), rule=Rule(0.02, 1e-4, (2, 4)), sampling=QUICK
    )  # fmt: skip

    assert done.rounds == 4
    assert INCONCLUSIVE in f"{done.decision.verdict} {done.decision.reason}"


def test_a_relative_budget_needs_something_to_be_relative_to(make_network):
    with pytest.raises(InputError, match=r"'0\.5x' is relative"):
        measure_against(NULL, [make_network()], parse_budget("0.5x"), rule=RULE, sampling=QUICK)


@pytest.mark.parametrize(
    ("asked", "looks"), [(6, (8, 16, 24)), (8, (8, 16, 24)), (20, (20, 40, 60))]
)
def test_a_look_has_the_rounds_that_its_level_needs(asked, looks):
    rule = looks_from(asked, alpha=0.02)

    assert rule.looks == looks
    values = list(np.random.default_rng(0).normal(size=looks[0]))
    assert signed_rank_interval(values, rule.confidence).confidence >= rule.confidence


@pytest.mark.parametrize("budget", ["1ms", "0.5x"])
def test_a_measured_network_meets_a_budget_when_the_decision_passes_and_no_other_time(budget):
    noise, rule, told = np.random.default_rng(0), looks_from(8, alpha=0.025), set()
    for speed in np.linspace(0.9, 1.1, 21):
        host = noise.lognormal(0, 0.03, 8)
        shallow, dense = lasting(*host * speed * noise.lognormal(0, 0.02, 8)), lasting(*2 * host)

        verdict_ = verdict(budget, shallow, dense, rule=rule).verdict
        found = Measured.beside(dense, shallow, rule.confidence)

        assert found.meets(parse_budget(budget)) == (verdict_ == PASS)
        assert found.misses(parse_budget(budget)) == (verdict_ == FAIL)
        told.add(verdict_)
    assert told == {PASS, FAIL, INCONCLUSIVE}
