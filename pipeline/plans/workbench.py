"""The bench of a job: variants of one dense network, built in a folder and measured beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import onnx_ir as ir

from pipeline.feedback import Attempt, Goal, Measured, judged
from pipeline.graphs.building import build
from pipeline.mapping import Map, Option
from pipeline.planning import Plan
from pipeline.plans.pace import laps
from pipeline.plans.yardstick import DIFFERS, conditions, sizes, write_yardstick
from profiles.budget import Budget
from profiles.budget_rounds import looks_from, measure_against
from profiles.comparison import ratio
from profiles.measurement import Measurement
from profiles.rounds import Sampling, measure
from profiles.statistics import Estimate
from profiles.target import Target

DENSE_LAPS = 2  # block pairs of dense alone and round
WIDE = 0.05  # half the interval of a plan's ratio, relative: no table is corrected by such a one
WARM_UP_S = 0.3  # per round of a whole plan: caches and clocks, beside a fresh process
FINISHED = Sampling(laps=5, warm_up_s=WARM_UP_S, warm_up_cap_s=3 * WARM_UP_S)
ALPHA = 0.025  # of a wrong PASS and of a wrong FAIL, each over all looks


@dataclass(frozen=True, slots=True)
class Kept:
    """The dense network on one target; `conditions` name all that a latency there depends on."""

    measured: Measured
    load_ms: float
    yardstick_ms: float
    conditions: str
    runtime_version: str


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
            median(one.load_ms + one.first_inference_ms for one in dense.rounds),
            ratio(yardstick, dense, across=DIFFERS).value * latency.value,
            conditions(dense),
            dense.identity.get("runtime_version", ""),
        )

    def compare(self, path: Path, target: Target) -> Measured:
        """One network beside the dense one, in as many pairs as its slowness allows.

        Where the interval comes out too wide, by a neighbour say, once more in twice the rounds;
        that asks for the width alone, so the second result is as unbiased as the first.
        """
        count = laps(self.dense_ms.get(target.name))
        dense, network = self._pairs(target, path, count)
        found = Measured.beside(dense, network)
        if (found.ratio.hi - found.ratio.lo) / 2 > WIDE * found.ratio.value:
            dense, network = self._pairs(target, path, count, rounds=2 * self.rounds)
            found = Measured.beside(dense, network)
        self.dense_ms[target.name] = dense.median_ms
        return found

    def decide(
        self, path: Path, target: Target, budget: Budget, *, say: Callable[[str], None]
    ) -> Measured:
        """A finished network beside the dense one, in more rounds while its verdict is open.

        The estimates have the level of one look, so `meets` and `misses` are the decision; that
        the host was unfit is said and takes nothing back, as it would cost a job its training.
        """
        rule = looks_from(self.rounds, alpha=ALPHA)
        found = measure_against(
            target,
            [self.dense_path, path],
            budget,
            rule=rule,
            sampling=FINISHED,
            seed=self.seed,
            shapes=self._shapes(target),
            say=say,
        )
        if not found.fitness.fit:
            say(f"  {target.name} is unfit to measure on: {found.fitness.reasons[0]}")
        dense, network = found.measurements
        return Measured.beside(dense, network, rule.confidence)

    def _pairs(
        self, target: Target, path: Path, count: int, *, rounds: int | None = None
    ) -> list[Measurement]:
        paths = [self.dense_path, path]
        return measure(
            target,
            paths,
            rounds=rounds or self.rounds,
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
