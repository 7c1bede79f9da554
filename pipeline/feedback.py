"""Build the planned network, measure it whole, correct the table, plan again.

Latency does not depend on weights, so nothing has been trained yet. A plan is judged by the upper
bound of its interval; one that meets every budget is kept, and the search goes on only for one of
less loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import onnx_ir as ir

from pipeline.building import build
from pipeline.caps import FREE, Rules
from pipeline.correction import corrected
from pipeline.infeasible import blame
from pipeline.mapping import Map, Option
from pipeline.pace import laps
from pipeline.planning import NO_PAIRS, LatencyTable, Limit, Plan, fastest, solve
from pipeline.ties import quickest
from pipeline.yardstick import DIFFERS, conditions, sizes, write_yardstick
from profiles.budget import Budget
from profiles.comparison import ratio
from profiles.measurement import Measurement
from profiles.rounds import measure
from profiles.statistics import Estimate
from profiles.target import Target
from runtimes.errors import InputError

DENSE_LAPS = 2  # block pairs of dense alone and round
LESS = 1e-5  # of the loss: what differs by no more is the same
WARM_UP_S = 0.3  # per round of a whole plan: caches and clocks, beside a fresh process


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

    def meets(self, budget: Budget) -> bool:
        """The upper bound of the interval is within the budget.

        A relative budget is judged by the paired ratio, which is free of the host's drift.
        """
        if budget.ratio is not None:
            return self.ratio.hi <= budget.ratio
        return self.latency_ms.hi <= budget.limit_ms(self.dense_ms.value)

    def misses(self, budget: Budget) -> bool:
        """The lower bound is over the budget: no doubt is left."""
        if budget.ratio is not None:
            return self.ratio.lo > budget.ratio
        return self.latency_ms.lo > budget.limit_ms(self.dense_ms.value)


@dataclass(frozen=True, slots=True)
class Kept:
    """The dense network on one target; `conditions` name all that a latency there depends on."""

    measured: Measured
    yardstick_ms: float
    conditions: str
    runtime_version: str


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
    """All attempts in their order; without a `best` even the `fastest` plan met not every budget.

    `fastest` is the plan predicted to be that, measured; null where a plan met every budget.
    """

    attempts: tuple[Attempt, ...]
    best: int | None
    fastest: int | None


class Device(Protocol):
    """Builds a plan's network and measures it whole."""

    def attempt(self, plan: Plan, goals: Sequence[Goal]) -> Attempt: ...


class Bench:
    """Builds variants of one dense network in a folder and measures them beside it."""

    def __init__(
        self,
        dense: ir.Model,
        map_: Map,
        folder: Path,
        *,
        seed: int,
        rounds: int,
        sizes: Mapping[str, tuple[int, ...]] | None = None,
    ):
        """`sizes` of one sample, by input, where the network leaves more than the batch open."""
        self.dense, self.map, self.folder = dense, map_, folder
        self.seed, self.rounds = seed, rounds
        self.sizes = sizes or {}
        self.options: dict[str, Option] = {option.id: option for option in map_.options}
        self.dense_path = folder / "dense.onnx"
        ir.save(dense, self.dense_path)
        self.yardstick = write_yardstick(folder / "yardstick.onnx")
        self.dense_ms: dict[str, float] = {}  # by target, once it is known

    def attempt(self, plan: Plan, goals: Sequence[Goal]) -> Attempt:
        """The planned network, weights random, measured whole on every target."""
        path = self.planned(plan)
        return judged(plan, [self.compare(path, goal.target) for goal in goals], goals)

    def planned(self, plan: Plan) -> Path:
        """The planned network; the next one is written over it."""
        path = self.folder / "plan.onnx"
        chosen = [self.options[id_] for id_ in plan.options]
        ir.save(build(self.dense, self.map, chosen, seed=self.seed), path)
        return path

    def keep(self, target: Target) -> Kept:
        """The dense network as it is, which is itself exactly, beside the yardstick."""
        dense, yardstick = self._pairs(target, self.yardstick, DENSE_LAPS)
        latency, itself = dense.estimate_ms(), Estimate(1.0, 1.0, 1.0, 1.0)
        self.dense_ms[target.name] = latency.value
        samples = len(dense.samples_ns())
        return Kept(
            Measured(target.name, latency, latency, itself, self.rounds, samples),
            ratio(yardstick, dense, across=DIFFERS).value * latency.value,
            conditions(dense),
            dense.identity.get("runtime_version", ""),
        )

    def compare(self, path: Path, target: Target) -> Measured:
        """One network beside the dense one, in as many pairs as its slowness allows."""
        dense, network = self._pairs(target, path, laps(self.dense_ms.get(target.name)))
        self.dense_ms[target.name] = dense.median_ms
        return Measured(
            target.name,
            network.estimate_ms(),
            dense.estimate_ms(),
            ratio(network, dense),
            self.rounds,
            len(network.samples_ns()),
        )

    def _pairs(self, target: Target, path: Path, count: int) -> list[Measurement]:
        paths = [self.dense_path, path]
        return measure(
            target,
            paths,
            rounds=self.rounds,
            seed=self.seed,
            shapes=self._shapes(target),
            laps=count,
            warm_up_s=WARM_UP_S,
        )

    def beside(
        self,
        reference: Path,
        target: Target,
        builds: Sequence[Callable[[], ir.Model]],
        *,
        step: Callable[[int], None],
        **sampling: Any,
    ) -> list[Estimate]:
        """Every network as a ratio to the reference; `step` hears how many after each round."""
        paths: list[Path] = []
        shapes = self._shapes(target)
        for index, make in enumerate(builds):
            paths.append(self.folder / f"variant-{index}.onnx")
            variant = make()
            shapes |= sizes(variant, target.batch)
            ir.save(variant, paths[-1])
        first, *variants = measure(
            target,
            [reference, *paths],
            rounds=self.rounds,
            seed=self.seed,
            shapes=shapes,
            on_round=lambda _: step(len(paths)),
            **sampling,
        )
        for path in paths:
            path.unlink()
        return [ratio(variant, first, across=DIFFERS) for variant in variants]

    def _shapes(self, target: Target) -> dict[str, tuple[int, ...]]:
        return {name: (target.batch, *size) for name, size in self.sizes.items()}


def judged(plan: Plan, measured: Sequence[Measured], goals: Sequence[Goal]) -> Attempt:
    meets = tuple(m.meets(goal.budget) for m, goal in zip(measured, goals, strict=True))
    return Attempt(plan, tuple(measured), meets)


def close_loop(
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
) -> Outcome:
    """As `search`; raises InputError where no plan meets, naming what the fastest measured."""
    found = search(
        device,
        options,
        losses,
        tables,
        goals,
        max_rounds=max_rounds,
        on_attempt=on_attempt,
        rules=rules,
        pairs=pairs,
    )
    if found.best is None:
        assert found.fastest is not None, "without a best plan the fastest was measured"
        limits = [limit_of(table, goal) for table, goal in zip(tables, goals, strict=True)]
        reasons = (
            out_of_reach(found.attempts[found.fastest], goals),
            blame(options, limits, rules),
        )
        raise InputError("; ".join(filter(None, reasons)))
    return Outcome(found.attempts, found.best)


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
    as_measured = [limit_of(table, goal) for table, goal in zip(tables, goals, strict=True)]
    attempts: list[Attempt] = []
    best: int | None = None
    last: int | None = None

    def limits() -> list[Limit]:
        plans = [frozenset(one.plan.options) for one in attempts]
        return [
            corrected(first, table, plans, [one.measured[index].ratio for one in attempts])
            for index, (first, table) in enumerate(zip(as_measured, tables, strict=True))
        ]

    for round_ in range(max_rounds + 1):
        now, tried = limits(), [frozenset(a.plan.options) for a in attempts]
        plan = None
        if round_ < max_rounds:
            below = attempts[best].plan.predicted_loss if best is not None else None
            plan = solve(
                options, losses, now, excluded=tried, below_loss=below, rules=rules, pairs=pairs
            )
            if plan and below is not None and plan.predicted_loss > below - LESS * abs(below):
                plan = None  # the solver's tolerance takes an equal loss for a smaller one
        if plan is not None:
            most = plan.predicted_loss
            plan = quickest(options, losses, now, most, excluded=tried, rules=rules, pairs=pairs)
        if plan is None and best is None:
            plan = fastest(options, losses, now, rules=rules, pairs=pairs)
            last = [*tried, frozenset(plan.options)].index(frozenset(plan.options))
            if last < len(attempts):
                break
        if plan is None:
            break
        made = device.attempt(plan, goals)
        attempts.append(made)
        on_attempt(made)
        better = best is None or plan.predicted_loss < attempts[best].plan.predicted_loss
        if all(made.meets) and better:
            best = len(attempts) - 1
    return Search(tuple(attempts), best, last if best is None else None)


def limit_of(table: LatencyTable, goal: Goal) -> Limit:
    dense_ms = table.dense.value
    differences = {id_: estimate.value for id_, estimate in table.differences.items()}
    return Limit(goal.target.name, dense_ms, differences, goal.budget.limit_ms(dense_ms))


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
