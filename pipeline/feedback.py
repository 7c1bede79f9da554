"""Build the planned network, measure it whole, correct the table, plan again.

Latency does not depend on weights, so nothing has been trained yet. After each round the savings
predicted for a target are scaled by what was really saved, judged by the upper bound of the
interval; a plan that meets every budget is kept, and the search goes on only for one of less loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import onnx_ir as ir

from pipeline.building import build
from pipeline.mapping import Map, Option
from pipeline.planning import LatencyTable, Limit, Plan, fastest, solve
from profiles.budget import Budget
from profiles.comparison import difference_ms, ratio
from profiles.rounds import measure
from profiles.statistics import Estimate
from profiles.target import Target
from runtimes.errors import InputError

SCALE_LIMITS = (0.25, 1.5)
TABLE_LAPS = 2  # block pairs per option and round
LAPS = 5  # block pairs of a whole plan and round
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

    def tabulate(
        self, target: Target, options: Sequence[Option], *, step: Callable[[int], None]
    ) -> LatencyTable:
        """Every option alone on the target, interleaved with dense; `step(1)` after each round."""
        paths = [self.dense_path]
        for index, option in enumerate(options):
            paths.append(self._build([option], f"option-{index}.onnx"))
        dense, *variants = measure(
            target,
            paths,
            rounds=self.rounds,
            seed=self.seed,
            shapes=self._shapes(target),
            laps=TABLE_LAPS,
            on_round=lambda _: step(1),
        )
        differences = {
            option.id: difference_ms(variant, dense)
            for option, variant in zip(options, variants, strict=True)
        }
        return LatencyTable(target.name, dense.estimate_ms(), differences)

    def attempt(self, plan: Plan, goals: Sequence[Goal]) -> Attempt:
        """The planned network, weights random, measured whole on every target."""
        path = self._build([self.options[id_] for id_ in plan.options], "plan.onnx")
        measured = tuple(self.compare(path, goal.target) for goal in goals)
        meets = tuple(m.meets(goal.budget) for m, goal in zip(measured, goals, strict=True))
        return Attempt(plan, measured, meets)

    def keep(self, target: Target) -> Measured:
        """The dense network alone, which is itself exactly."""
        (dense,) = measure(
            target,
            [self.dense_path],
            rounds=self.rounds,
            seed=self.seed,
            shapes=self._shapes(target),
            laps=LAPS,
            warm_up_s=WARM_UP_S,
        )
        latency, itself = dense.estimate_ms(), Estimate(1.0, 1.0, 1.0, 1.0)
        samples = len(dense.samples_ns())
        return Measured(target.name, latency, latency, itself, self.rounds, samples)

    def compare(self, path: Path, target: Target, *, laps: int = LAPS) -> Measured:
        """One network beside the dense one."""
        dense, network = measure(
            target,
            [self.dense_path, path],
            rounds=self.rounds,
            seed=self.seed,
            shapes=self._shapes(target),
            laps=laps,
            warm_up_s=WARM_UP_S,
        )
        return Measured(
            target.name,
            network.estimate_ms(),
            dense.estimate_ms(),
            ratio(network, dense),
            self.rounds,
            len(network.samples_ns()),
        )

    def _shapes(self, target: Target) -> dict[str, tuple[int, ...]]:
        return {name: (target.batch, *size) for name, size in self.sizes.items()}

    def _build(self, chosen: Sequence[Option], name: str) -> Path:
        path = self.folder / name
        ir.save(build(self.dense, self.map, chosen, seed=self.seed), path)
        return path


def close_loop(
    device: Device,
    options: Sequence[Option],
    losses: Mapping[str, float],
    tables: Sequence[LatencyTable],
    goals: Sequence[Goal],
    *,
    max_rounds: int,
    on_attempt: Callable[[Attempt], None],
) -> Outcome:
    """As `search`; raises InputError where no plan meets, naming what the fastest measured."""
    found = search(
        device, options, losses, tables, goals, max_rounds=max_rounds, on_attempt=on_attempt
    )
    if found.best is None:
        assert found.fastest is not None, "without a best plan the fastest was measured"
        raise InputError(out_of_reach(found.attempts[found.fastest], goals))
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
) -> Search:
    """Plan until the measured network meets every budget; keep the one of least predicted loss."""
    limits = [limit_of(table, goal) for table, goal in zip(tables, goals, strict=True)]
    attempts: list[Attempt] = []
    best: int | None = None
    last: int | None = None

    def attempt(plan: Plan) -> None:
        nonlocal best, limits
        made = device.attempt(plan, goals)
        attempts.append(made)
        on_attempt(made)
        better = best is None or plan.predicted_loss < attempts[best].plan.predicted_loss
        if all(made.meets) and better:
            best = len(attempts) - 1
        limits = [_corrected(x, plan, m) for x, m in zip(limits, made.measured, strict=True)]

    for _ in range(max_rounds):
        plan = solve(
            options,
            losses,
            limits,
            excluded=[frozenset(a.plan.options) for a in attempts],
            below_loss=attempts[best].plan.predicted_loss if best is not None else None,
        )
        if plan is None:
            break
        attempt(plan)
    if best is None:
        quickest = fastest(options, losses, limits)
        tried = [set(a.plan.options) for a in attempts]
        if set(quickest.options) not in tried:
            tried.append(set(quickest.options))
            attempt(quickest)
        last = tried.index(set(quickest.options)) if best is None else None
    return Search(tuple(attempts), best, last)


def limit_of(table: LatencyTable, goal: Goal) -> Limit:
    dense_ms = table.dense.value
    differences = {id_: estimate.value for id_, estimate in table.differences.items()}
    return Limit(goal.target.name, dense_ms, differences, goal.budget.limit_ms(dense_ms))


def _corrected(limit: Limit, plan: Plan, measured: Measured) -> Limit:
    """Scale the predicted savings so that this plan's would have been the measured ones.

    The measurement is taken relative to the dense network beside it, as the table was: a host that
    became slower in between must not look like a smaller saving.
    """
    predicted = sum(limit.differences_ms[id_] for id_ in plan.options)
    if predicted >= 0:
        return limit
    saved = limit.dense_ms * (measured.ratio.hi - 1)
    low, high = SCALE_LIMITS
    scale = min(high, max(low, saved / predicted))
    return replace(limit, differences_ms={i: d * scale for i, d in limit.differences_ms.items()})


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
