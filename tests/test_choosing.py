"""Which candidate is the result, and what the whole job is worth then."""

from __future__ import annotations

import pytest

from pipeline.feedback import Goal, Measured
from pipeline.jobs.choosing import Contender, Judgement, choose, floor_of, judge, overall
from pipeline.recipe_tables.plan import PlanTable
from pipeline.verify import Parity
from profiles.budget import UNLIMITED, parse_budget
from profiles.statistics import Estimate
from profiles.target import find_target

CPU = find_target("x86-cpu")
PASS, FAIL, DOUBT = Judgement("PASS"), Judgement("FAIL", ("no",)), Judgement("INCONCLUSIVE", ("?",))


def measured(ratio: float, spread: float = 0.01) -> Measured:
    of_dense = Estimate(ratio, ratio - spread, ratio + spread, 0.95)
    return Measured(CPU.name, of_dense, Estimate(1.0, 1.0, 1.0, 0.95), of_dense, 12, 240)


def parity(*, passed: bool) -> Parity:
    error = 1e-6 if passed else 0.5
    return Parity(CPU.name, 100, error, error, 1.0, 0.9, 1e-4, passed)


def verdict(budget: str | None, ratio: float, *, validation: float = 0.9, floor=None, passed=True):
    goal = Goal(CPU, parse_budget(budget) if budget else UNLIMITED)
    return judge([goal], [measured(ratio)], [parity(passed=passed)], validation, floor).verdict


@pytest.mark.parametrize(
    ("ratio", "expected"), [(0.58, "PASS"), (0.595, "INCONCLUSIVE"), (0.62, "FAIL")]
)
def test_a_budget_is_met_or_missed_only_by_the_whole_interval(ratio, expected):
    assert verdict("0.6x", ratio) == expected


def test_without_a_budget_no_latency_is_too_long():
    assert verdict(None, 5.0) == "PASS"


def test_an_accuracy_below_the_floor_fails_whatever_the_latency():
    assert verdict("0.6x", 0.1, validation=0.89, floor=0.9) == "FAIL"
    assert verdict("0.6x", 0.1, validation=0.90, floor=0.9) == "PASS"


def test_an_artifact_that_is_not_the_torch_model_fails():
    assert verdict("0.6x", 0.1, passed=False) == "FAIL"


@pytest.mark.parametrize(
    ("rule", "floor"),
    [
        ({}, None),
        ({"accuracy_floor": 0.9}, 0.9),
        ({"accuracy_fall": 0.01}, 0.94),
        ({"accuracy_floor": 0.9, "accuracy_fall": 0.01}, 0.94),
        ({"accuracy_floor": 0.949, "accuracy_fall": 0.01}, 0.949),
    ],
)
def test_the_stricter_floor_holds(rule, floor):
    assert floor_of(PlanTable(**rule), 0.95) == (floor and pytest.approx(floor))


CONTENDERS = [
    Contender(FAIL, 0.99, (0.9,)),
    Contender(PASS, 0.95, (0.7,)),
    Contender(PASS, 0.93, (0.5,)),
    Contender(DOUBT, 0.94, (0.4,)),
]


@pytest.mark.parametrize(("objective", "chosen"), [("budget", 1), ("accuracy", 2)])
def test_of_those_that_pass_the_most_accurate_or_the_fastest_is_chosen(objective, chosen):
    assert choose(CONTENDERS, objective) == chosen


def test_of_equal_accuracy_the_faster_is_chosen():
    assert choose([Contender(PASS, 0.9, (0.7,)), Contender(PASS, 0.9, (0.6,))], "budget") == 1


def test_two_targets_count_alike():
    one, other = Contender(PASS, 0.9, (0.5, 0.9)), Contender(PASS, 0.9, (0.6, 0.6))

    assert choose([one, other], "accuracy") == 1


@pytest.mark.parametrize(
    ("judgements", "chosen", "expected"),
    [
        ([FAIL, PASS], 1, "PASS"),
        ([FAIL, DOUBT], None, "INCONCLUSIVE"),
        ([FAIL, FAIL], None, "FAIL"),
    ],
)
def test_only_where_all_fail_the_job_fails(judgements, chosen, expected):
    assert overall(judgements, chosen) == expected


def test_where_none_passes_none_is_chosen():
    assert choose([Contender(FAIL, 1.0, (0.1,)), Contender(DOUBT, 1.0, (0.1,))], "budget") is None
