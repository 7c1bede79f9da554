"""Build the planned network, measure it whole, correct the table, plan again.

Latency does not depend on weights, so nothing has been trained yet. A plan is judged by the upper
bound of its interval; one that meets every budget is kept, and the search goes on only for one of
less loss. Where what is left measured far from its prediction, one of the two is wrong: the plan is
measured once more, against the prediction as corrected, and stays if it meets again.

A budget is out of reach when the plan predicted to be the fastest misses it by more than
predictions were seen to be wrong; by less, the next fastest may be the faster one and is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.mapping import Option
from pipeline.planning import (
    NO_PAIRS,
    LatencyTable,
    Limit,
    Plan,
    fastest,
    next_fastest,
    reckoned,
    solve,
)
from pipeline.plans.caps import FREE, Rules
from pipeline.plans.correction import corrected
from pipeline.plans.infeasible import blame
from pipeline.plans.ties import quickest
from profiles.budget import Budget
from profiles.comparison import ratio
from profiles.measurement import Measurement
from profiles.statistics import Estimate
from profiles.target import Target
from runtimes.errors import InputError

LESS = 1e-5  # of the loss: what differs by no more is the same
SURPRISE = 0.05  # of what was measured: a prediction further from it is not believed, nor is it


@dataclass(frozen=True, slots=True)
class Goal:
    """A target and the budget to meet there; `budget` is in ms or relative to dense."""

    target: Target
    budget: Budget


@dataclass(frozen=True, slots=True)
class Measured:
    """One network on one target, side by side with the dense one."""

    target: str
    latency_ms: Estimate
    dense_ms: Estimate
    ratio: Estimate
    rounds: int
    samples: int  # of the network; the dense one has as many

    @classmethod
    def beside(
        cls,
        dense: Measurement,
        network: Measurement,
        confidence: float = 0.95,
        across: Collection[str] = (),
    ) -> Measured:
        """What two records say that were measured in one trial, the dense network's first."""
        return cls(
            network.target,
            network.estimate_ms(confidence),
            dense.estimate_ms(confidence),
            ratio(network, dense, confidence, across),
            len(network.by_round()),
            len(network.samples_ns()),
        )

    def meets(self, budget: Budget) -> bool:
        """The upper bound of the interval is within the budget.

        A relative budget is judged by the paired ratio, which is free of the host's drift.
        """
        return self.share_of(budget) <= 1

    def share_of(self, budget: Budget) -> float:
        """The upper bound relative to the budget."""
        if budget.ratio is not None:
            return self.ratio.hi / budget.ratio
        return self.latency_ms.hi / budget.limit_ms(self.dense_ms.value)

    def misses(self, budget: Budget) -> bool:
        """The lower bound is over the budget: no doubt is left."""
        if budget.ratio is not None:
            return self.ratio.lo > budget.ratio
        return self.latency_ms.lo > budget.limit_ms(self.dense_ms.value)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One turn of the loop: what was planned and what the whole network measured."""

    plan: Plan
    measured: tuple[Measured, ...]
    meets: tuple[bool, ...]  # by target


@dataclass(frozen=True, slots=True)
class Outcome:
    """All attempts in their order; `best` is the one of least loss that met every budget."""

    attempts: tuple[Attempt, ...]
    best: int

    @property
    def chosen(self) -> Attempt:
        return self.attempts[self.best]


@dataclass(frozen=True, slots=True)
class Search:
    """All attempts in their order; without a `best` no plan met every budget.

    `nearest` is then the one that came nearest to them, and null where there is a best.
    """

    attempts: tuple[Attempt, ...]
    best: int | None
    nearest: int | None


class Device(Protocol):
    """Builds a plan's network and measures it whole."""

    def attempt(self, plan: Plan, goals: Sequence[Goal]) -> Attempt: ...


def judged(plan: Plan, measured: Sequence[Measured], goals: Sequence[Goal]) -> Attempt:
    meets = tuple(m.meets(goal.budget) for m, goal in zip(measured, goals, strict=True))
    return Attempt(plan, tuple(measured), meets)


def search(
    device: Device,
    options: Sequence[Option],
    losses: Mapping[str, float],
    tables: Sequence[LatencyTable],
    goals: Sequence[Goal],
    *,
    max_rounds: int,
    on_attempt: Callable[[Attempt], None],
    rules: Rules = FREE,
    pairs: Mapping[tuple[str, str], float] = NO_PAIRS,
) -> Search:
    """Plan until the measured network meets every budget; keep the one of least predicted loss.

    Where none is predicted to meet, and after `max_rounds`, the fastest is tried, like any other.
    """
    attempts: list[Attempt] = []
    best: int | None = None
    dense_ms = {table.target: table.dense.value for table in tables}

    while True:
        now = limits_after(tables, goals, attempts)
        tried = [frozenset(a.plan.options) for a in attempts]
        rounds = len(set(tried))  # a second look at a plan is none
        plan = None
        if rounds < max_rounds:
            below = attempts[best].plan.predicted_loss if best is not None else None
            plan = solve(
                options, losses, now, excluded=tried, below_loss=below, rules=rules, pairs=pairs
            )
            if plan and below is not None and plan.predicted_loss > below - LESS * abs(below):
                plan = None  # the solver's tolerance takes an equal loss for a smaller one
        if plan is not None:
            most = plan.predicted_loss
            plan = quickest(options, losses, now, most, excluded=tried, rules=rules, pairs=pairs)
        if plan is None and best is None and rounds <= max_rounds:
            plan = fastest(options, losses, now, rules=rules, pairs=pairs)
            if frozenset(plan.options) in tried:
                plan = None
                if _within_error(attempts, goals, dense_ms):
                    plan = next_fastest(
                        options, losses, now, excluded=tried, rules=rules, pairs=pairs
                    )
        if plan is None and best is not None and _only_once(attempts, best, dense_ms):
            plan = reckoned(attempts[best].plan, now)
        if plan is None:
            break
        made = device.attempt(plan, goals)
        attempts.append(made)
        on_attempt(made)
        best = _best(attempts)
    if best is not None:
        return Search(tuple(attempts), best, None)
    over = [index for index, one in enumerate(attempts) if not all(one.meets)]
    return Search(tuple(attempts), None, min(over, key=lambda i: excess(attempts[i], goals)))


def _best(attempts: Sequence[Attempt]) -> int | None:
    """Of the plans that met every budget each time, the one of least loss, as measured last."""
    over = {frozenset(one.plan.options) for one in attempts if not all(one.meets)}
    met = [i for i, one in enumerate(attempts) if frozenset(one.plan.options) not in over]
    return min(met, key=lambda i: (attempts[i].plan.predicted_loss, -i), default=None)


def _only_once(attempts: Sequence[Attempt], best: int, dense_ms: Mapping[str, float]) -> bool:
    """It measured far from what was predicted, and nothing has confirmed it."""
    tried = [frozenset(one.plan.options) for one in attempts]
    return _error(attempts[best], dense_ms) > SURPRISE and tried.count(tried[best]) == 1


def _within_error(
    attempts: Sequence[Attempt], goals: Sequence[Goal], dense_ms: Mapping[str, float]
) -> bool:
    """The budgets were missed by less than a prediction was wrong: another plan may meet them."""
    missed = min(excess(one, goals) for one in attempts) - 1
    return missed < max(_error(one, dense_ms) for one in attempts)


def _error(made: Attempt, dense_ms: Mapping[str, float]) -> float:
    """How far what was predicted is from what was measured, relative to dense each; the worst."""
    return max(
        abs(made.plan.predicted_ms[m.target] / dense_ms[m.target] / m.ratio.value - 1)
        for m in made.measured
    )


def excess(made: Attempt, goals: Sequence[Goal]) -> float:
    """The upper bound relative to the budget, on the target where it is worst."""
    shares = zip(made.measured, goals, strict=True)
    return max(measured.share_of(goal.budget) for measured, goal in shares)


def required(
    found: Search,
    options: Sequence[Option],
    tables: Sequence[LatencyTable],
    goals: Sequence[Goal],
    rules: Rules = FREE,
) -> Outcome:
    """What was found; raises InputError where no plan meets, naming what the nearest measured."""
    if found.best is not None:
        return Outcome(found.attempts, found.best)
    assert found.nearest is not None, "without a best plan another came nearest"
    limits = [limit_of(table, goal) for table, goal in zip(tables, goals, strict=True)]
    reasons = (out_of_reach(found.attempts[found.nearest], goals), blame(options, limits, rules))
    raise InputError("; ".join(filter(None, reasons)))


def limit_of(table: LatencyTable, goal: Goal) -> Limit:
    dense_ms = table.dense.value
    differences = {id_: estimate.value for id_, estimate in table.differences.items()}
    return Limit(goal.target.name, dense_ms, differences, goal.budget.limit_ms(dense_ms))


def limits_after(
    tables: Sequence[LatencyTable], goals: Sequence[Goal], attempts: Sequence[Attempt]
) -> list[Limit]:
    """The tables within the budgets, corrected by what whole plans measured."""
    plans = [frozenset(one.plan.options) for one in attempts]
    return [
        corrected(
            limit_of(table, goal), table, plans, [one.measured[index].ratio for one in attempts]
        )
        for index, (table, goal) in enumerate(zip(tables, goals, strict=True))
    ]


def out_of_reach(made: Attempt, goals: Sequence[Goal]) -> str:
    misses = [
        f"{m.latency_ms.value:.4g} ms ({m.ratio.value:.2f}x dense, interval up to "
        f"{m.latency_ms.hi:.4g} ms) on {m.target}, over its budget of {goal.budget.text}"
        for m, goal, meets in zip(made.measured, goals, made.meets, strict=True)
        if not meets
    ]
    return (
        f"no plan meets the budget: the fastest measured {' and '.join(misses)}; "
        "raise the budget, allow smaller kernels, or choose another target"
    )
