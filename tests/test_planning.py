import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.graphs.geometry import Geometry
from pipeline.mapping import Option
from pipeline.planning import Limit, fastest, solve

GEOMETRY = Geometry((3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 1, 4, 4)


def option(id_: str, segment: str, first: int = 0, last: int = 1) -> Option:
    return Option(
        id=id_,
        segment=segment,
        kind="refit",
        first=first,
        last=last,
        absorbs_shortcut=False,
        sites=(f"{segment}#{first}",),
        geometry=GEOMETRY,
        pooled=False,
        border="none",
        macs=1,
        macs_before=2,
        replaces=tuple(f"{segment}.{operator}" for operator in range(first, last + 1)),
    )


def limit(differences: dict[str, float], budget_ms: float, target: str = "here") -> Limit:
    return Limit(target, 10.0, differences, budget_ms)


A, B, C = option("a", "s"), option("b", "s"), option("c", "t")
LOSSES = {"a": 1.0, "b": 3.0, "c": 2.0}
FASTER = {"a": -1.0, "b": -3.0, "c": -2.0}


def test_a_budget_that_dense_meets_keeps_everything():
    plan = solve([A, B, C], LOSSES, [limit(FASTER, 10.0)])

    assert plan is not None
    assert plan.options == ()
    assert plan.predicted_ms == {"here": 10.0}


def test_the_plan_has_the_least_loss_within_the_budget():
    plan = solve([A, B, C], LOSSES, [limit(FASTER, 7.0)])

    assert plan is not None
    assert set(plan.options) in ({"b"}, {"a", "c"})
    assert plan.predicted_loss == 3.0


def test_of_equal_losses_the_plan_with_fewer_options_is_taken():
    plan = solve([A, B, C], LOSSES, [limit(FASTER, 7.0)])

    assert plan is not None
    assert plan.options == ("b",)


def test_two_options_never_replace_the_same_operator():
    plan = solve([A, B, C], dict.fromkeys("abc", 0.0), [limit(FASTER, 5.5)])

    assert plan is not None
    assert set(plan.options) == {"b", "c"}


def test_a_budget_below_the_fastest_plan_has_no_plan():
    assert solve([A, B, C], LOSSES, [limit(FASTER, 4.9)]) is None


def test_the_fastest_plan_has_the_least_predicted_latency():
    assert set(fastest([A, B, C], LOSSES, [limit(FASTER, 1.0)]).options) == {"b", "c"}


def test_every_target_has_its_own_budget():
    here = limit({"a": -1.0, "b": -3.0, "c": -2.0}, 8.0)
    there = limit({"a": -3.0, "b": 0.0, "c": 0.0}, 7.0, target="there")

    plan = solve([A, B, C], LOSSES, [here, there])

    assert plan is not None
    assert set(plan.options) == {"a", "c"}


def test_an_excluded_plan_is_not_given_again():
    plan = solve([A, B, C], LOSSES, [limit(FASTER, 8.0)], excluded=[frozenset({"c"})])

    assert plan is not None
    assert set(plan.options) == {"b"}


def test_a_strictly_better_plan_can_be_asked_for():
    assert solve([A, B, C], LOSSES, [limit(FASTER, 8.0)], below_loss=2.0) is None


def test_a_network_without_options_is_a_plan_only_if_it_meets_the_budget():
    assert solve([], {}, [limit({}, 10.0)]) is not None
    assert solve([], {}, [limit({}, 9.0)]) is None


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 9), targets=st.integers(1, 3))
def test_the_solver_agrees_with_trying_every_plan(seed: int, count: int, targets: int):
    rng = np.random.default_rng(seed)
    options = []
    for index in range(count):
        first = int(rng.integers(0, 3))
        last = int(rng.integers(first, 4))
        options.append(option(f"o{index}", f"s{rng.integers(0, 3)}", first, last))
    losses = {o.id: float(rng.integers(0, 40)) for o in options}
    limits = [
        limit({o.id: float(rng.normal(-1, 1)) for o in options}, float(rng.uniform(6, 11)), f"t{k}")
        for k in range(targets)
    ]

    plan = solve(options, losses, limits)

    allowed = [sum(losses[o.id] for o in plan) for plan in _plans(options) if _fits(plan, limits)]
    if plan is None:
        assert not allowed
    else:
        chosen = [o for o in options if o.id in plan.options]
        assert _fits(chosen, limits)
        assert plan.predicted_loss == pytest.approx(min(allowed))


def _plans(options: list[Option]) -> list[list[Option]]:
    subsets = itertools.chain.from_iterable(
        itertools.combinations(options, size) for size in range(len(options) + 1)
    )
    return [list(s) for s in subsets if not any(_overlap(a, b) for a, b in _pairs(s))]


def _pairs(options: tuple[Option, ...]) -> list[tuple[Option, Option]]:
    return list(itertools.combinations(options, 2))


def _overlap(a: Option, b: Option) -> bool:
    return a.segment == b.segment and a.first <= b.last and b.first <= a.last


def _fits(plan: list[Option], limits: list[Limit]) -> bool:
    return all(
        x.dense_ms + sum(x.differences_ms[o.id] for o in plan) <= x.budget_ms + 1e-6 for x in limits
    )
