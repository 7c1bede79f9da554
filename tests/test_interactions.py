"""Options that are cheap alone and dear together: scored as pairs, and planned for."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_feedback import OPTIONS, SAVINGS, Device, exactly
from test_planning import limit, option

from pipeline.feedback import Goal, required, search
from pipeline.planning import LatencyTable, Limit, solve
from pipeline.plans.caps import FREE
from pipeline.plans.frontier import spread
from pipeline.plans.interactions import Pair, interactions
from pipeline.plans.ties import quickest
from profiles.budget import parse_budget
from profiles.target import find_target

FOUR = [option(id_, f"segment {id_}") for id_ in "abcd"]
LOSSES = {"a": 1.0, "b": 1.1, "c": 2.0, "d": 3.0}
ONE_MS_EACH = dict.fromkeys("abcd", -1.0)
DEAR = {("a", "b"): 9.0}  # beyond the 2.1 of both alone


def scoring(asked: list[Pair], together: Mapping[Pair, float]):
    def score(pairs: Sequence[Pair]) -> dict[Pair, float]:
        asked.extend(pairs)
        return {(i, j): LOSSES[i] + LOSSES[j] + together.get((i, j), 0.0) for i, j in pairs}

    return score


def rescored(limits: Sequence[Limit], asked: list[Pair], *, frontier: int = 0):
    return interactions(
        FOUR, LOSSES, limits, rules=FREE, frontier=frontier, score=scoring(asked, DEAR)
    )


def test_a_pair_that_is_dear_together_is_left_for_another():
    limits = [limit(ONE_MS_EACH, 8.0)]
    alone = solve(FOUR, LOSSES, limits)

    found = rescored(limits, asked := [])

    assert alone is not None
    assert set(alone.options) == {"a", "b"}
    again = solve(FOUR, LOSSES, limits, pairs=found)
    assert again is not None
    assert set(again.options) == {"a", "c"}
    assert asked == [("a", "b"), ("a", "c")]  # the new solution's pair is looked at too


def test_a_plan_of_one_option_has_no_pair_to_score():
    assert rescored([limit(ONE_MS_EACH, 9.0)], asked := []) == {}
    assert asked == []


def test_where_no_plan_is_within_the_budget_the_pairs_of_the_fastest_are_scored():
    rescored([limit(ONE_MS_EACH, 1.0)], asked := [])

    assert set(asked) == set(itertools.combinations("abcd", 2))


def test_every_plan_of_a_frontier_has_its_pairs_scored():
    limits = [limit(ONE_MS_EACH, 9.0)]

    found = rescored(limits, [], frontier=4)

    plans = spread(FOUR, LOSSES, limits, 4, pairs=found)
    pairs = {pair for plan in plans for pair in itertools.combinations(sorted(plan.options), 2)}
    assert pairs
    assert pairs <= found.keys()


def test_a_frontier_avoids_what_is_dear_together():
    limits = [limit(ONE_MS_EACH, 9.0)]

    plain, aware = (spread(FOUR, LOSSES, limits, 5, pairs=pairs) for pairs in ({}, DEAR))

    assert [set(p.options) for p in plain][2] == {"a", "b"}
    assert [set(p.options) for p in aware][2] == {"a", "c"}
    assert aware[-1].predicted_loss == pytest.approx(sum(LOSSES.values()) + 9.0)


def test_the_closed_loop_plans_with_the_pairs_and_counts_them():
    goal = Goal(find_target("x86-cpu"), parse_budget("8ms"))
    differences = {id_: exactly(-saved) for id_, saved in SAVINGS.items()}
    table = LatencyTable("x86-cpu", exactly(10.0), differences)

    found = (
        search(
            Device(SAVINGS), OPTIONS, LOSSES, [table], [goal],
            max_rounds=3, on_attempt=lambda _: None, pairs=pairs,
        )
        for pairs in ({}, DEAR)
    )  # fmt: skip
    plain, aware = (required(one, OPTIONS, [table], [goal]) for one in found)

    assert set(plain.chosen.plan.options) == {"a", "b"}
    assert set(aware.chosen.plan.options) == {"a", "c"}
    assert aware.chosen.plan.predicted_loss == pytest.approx(3.0)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(2, 8))
def test_the_quickest_plan_of_a_loss_agrees_with_trying_every_plan(seed: int, count: int):
    rng = np.random.default_rng(seed)
    options = [option(f"o{i}", f"s{i}") for i in range(count)]
    ids = [o.id for o in options]
    losses = {id_: float(rng.integers(1, 4)) for id_ in ids}
    saving = {id_: -float(rng.integers(1, 20)) / 10 for id_ in ids}
    some = list(itertools.combinations(ids, 2))[:: int(rng.integers(1, 4))]
    pairs = {pair: float(rng.integers(-1, 3)) for pair in some}
    within = limit(saving, 10.0 + sum(saving.values()) * float(rng.uniform(0, 0.9)))

    def loss(plan: Sequence[str]) -> float:
        joint = sum(v for pair, v in pairs.items() if set(pair) <= set(plan))
        return sum(losses[id_] for id_ in plan) + joint

    first = solve(options, losses, [within], pairs=pairs)
    assert first is not None
    plan = quickest(options, losses, [within], first.predicted_loss, pairs=pairs)

    every = [p for size in range(count + 1) for p in itertools.combinations(ids, size)]
    times = {p: 10.0 + sum(saving[id_] for id_ in p) for p in every}
    tied = [p for p in every if loss(p) <= first.predicted_loss and times[p] <= within.budget_ms]
    assert plan.predicted_ms["here"] == pytest.approx(min(times[p] for p in tied))
    assert plan.predicted_loss == pytest.approx(loss(plan.options))
    assert plan.predicted_loss <= first.predicted_loss + 1e-9
