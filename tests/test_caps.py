"""Caps, pins and removals in the solver, against trying every plan."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_planning import option

from pipeline.mapping import Option
from pipeline.planning import Limit, Plan, by_macs, solve
from pipeline.plans.caps import Cap, Quantity, Row, Rules
from pipeline.plans.infeasible import blame


class Problem:
    """Random options, limits of several targets, every kind of cap, pairs and a removal."""

    def __init__(self, seed: int, count: int):
        rng = np.random.default_rng(seed)
        self.options: list[Option] = []
        for index in range(count):
            first = int(rng.integers(0, 3))
            last = int(rng.integers(first, 4))
            made = option(f"o{index}", f"s{rng.integers(0, 4)}", first, last)
            sites = tuple(f"{made.segment}#{i}" for i in range(first, last))
            self.options.append(replace(made, sites=sites))
        ids = [o.id for o in self.options]
        self.losses = {id_: float(rng.integers(0, 40)) for id_ in ids}
        self.limits = [
            Limit(
                f"t{k}", 10.0, {i: float(rng.normal(-1, 1)) for i in ids}, float(rng.uniform(6, 11))
            )
            for k in range(int(rng.integers(1, 5)))
        ]
        caps = []
        for name in ("macs", "bytes", "peak_bytes", "operators", "removed"):
            rows = tuple(
                Row(100.0, {i: float(rng.integers(-30, 10)) for i in ids})
                for _ in range(3 if name == "peak_bytes" else 1)
            )
            if rng.random() < 0.5:
                most = float(rng.integers(40, 130))
                caps.append(Cap(Quantity(name, name, rows), most, f"{most}"))
        sites = sorted({site for o in self.options for site in o.sites})
        removed = (sites[int(rng.integers(len(sites)))],) if sites and rng.random() < 0.3 else ()
        self.rules = Rules(tuple(caps), removed)
        chosen = rng.choice(count, size=(3, 2)) if count > 1 else []
        self.pairs = {(ids[a], ids[b]): float(rng.integers(-10, 20)) for a, b in chosen if a != b}

    def allows(self, plan: tuple[Option, ...]) -> bool:
        ids = [o.id for o in plan]
        within = all(
            x.dense_ms + sum(x.differences_ms[i] for i in ids) <= x.budget_ms for x in self.limits
        )
        capped = all(cap.holds(ids) for cap in self.rules.caps)
        gone = {site for o in plan for site in o.sites}
        apart = all(
            a.segment != b.segment or a.last < b.first or b.last < a.first
            for a, b in itertools.combinations(plan, 2)
        )
        return within and capped and apart and gone.issuperset(self.rules.removed)

    def loss(self, plan: tuple[Option, ...]) -> float:
        ids = {o.id for o in plan}
        together = sum(v for pair, v in self.pairs.items() if ids.issuperset(pair))
        return sum(self.losses[i] for i in ids) + together

    def solve(self, options: list[Option] | None = None) -> Plan | None:
        return solve(
            options or self.options, self.losses, self.limits, rules=self.rules, pairs=self.pairs
        )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 14))
def test_with_all_limits_at_once_the_solver_agrees_with_trying_every_plan(seed: int, count: int):
    problem = Problem(seed, count)

    plan = problem.solve()

    subsets = itertools.chain.from_iterable(
        itertools.combinations(problem.options, size) for size in range(count + 1)
    )
    allowed = [problem.loss(one) for one in subsets if problem.allows(one)]
    if plan is None:
        assert not allowed
    else:
        assert problem.allows(tuple(o for o in problem.options if o.id in plan.options))
        assert plan.predicted_loss == pytest.approx(min(allowed))
        assert plan.status == "optimal"


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), data=st.data())
def test_the_order_of_the_options_does_not_matter_even_where_plans_tie(seed: int, data):
    problem = Problem(seed, 12)
    problem.losses = dict.fromkeys(problem.losses, 1.0)
    shuffled = data.draw(st.permutations(problem.options))

    plan, again = problem.solve(), problem.solve(shuffled)

    assert (plan is None) == (again is None)
    if plan and again:
        assert set(plan.options) == set(again.options)


def test_a_choice_by_macs_ignores_time():
    cheap = replace(option("cheap", "s"), macs=1, macs_before=50)
    quick = replace(option("quick", "t"), macs=40, macs_before=50)
    losses = {"cheap": 1.0, "quick": 0.5}

    plan = by_macs([cheap, quick], losses, macs=100, most=60)

    assert plan is not None
    assert plan.options == ("cheap",)
    assert plan.amounts == {"macs": 51.0}
    assert by_macs([cheap, quick], losses, macs=100, most=40) is None


A, B = option("a", "s"), option("b", "t")
SAVES = {"a": -1.0, "b": -2.0}


def macs(most: float) -> Cap:
    return Cap(Quantity("macs", "MACs", (Row(10.0, {"a": -6.0, "b": 2.0}),)), most, f"{most:g}")


def test_two_options_that_are_dear_together_are_not_taken_together():
    c = option("c", "u")
    limits = [Limit("here", 10.0, {"a": -1.0, "b": -1.0, "c": -1.0}, 8.0)]
    losses = {"a": 1.0, "b": 1.0, "c": 1.5}

    alone = solve([A, B, c], losses, limits)
    together = solve([A, B, c], losses, limits, pairs={("a", "b"): 1.0})

    assert alone is not None
    assert together is not None
    assert set(alone.options) == {"a", "b"}
    assert "c" in together.options
    assert together.predicted_loss == 2.5


def test_the_budget_that_no_plan_meets_is_named_with_the_least_there_is():
    said = blame([A, B], [Limit("here", 10.0, SAVES, 5.0)], Rules((macs(4.0),)))

    assert said == "5 ms on here cannot be met: the fastest plan is reckoned at 7 ms"
    said = blame([A, B], [Limit("here", 10.0, SAVES, 8.0)], Rules((macs(3.0),)))
    assert said == ("max_macs = 3 cannot be met: the least of any plan is 4 MACs (dense: 10)")


def test_budgets_that_only_exclude_each_other_are_named_together():
    said = blame([A, B], [Limit("here", 10.0, SAVES, 8.0)], Rules((macs(4.0),)))

    assert said is not None
    assert "8 ms on here and max_macs = 4 can each be met alone, but not together" in said
    assert blame([A, B], [Limit("here", 10.0, SAVES, 9.0)], Rules((macs(4.0),))) is None
