"""Builds the network of a plan in fewer bits, and measures it beside the dense one in fp32.

Calibrated on seeded noise: how long eight bits take does not depend on what their ranges are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from pipeline.feedback import Goal, Measured
from pipeline.graphs.building import build
from pipeline.graphs.precision import activations_for, make
from pipeline.mapping import Map, load_model, map_model
from pipeline.plans.measured_record import latency
from pipeline.plans.resumed import Parts, saying_what_is_kept
from pipeline.plans.workbench import WARM_UP_S
from pipeline.reporting.documents import FrontierRow
from pipeline.reporting.plan_document import PlanDocument
from pipeline.verbs.plan_file import losses_of
from pipeline.verbs.planned import Wish
from profiles.budget import UNLIMITED
from profiles.rounds import measure
from profiles.target import Target
from runtimes.base import Precision
from runtimes.inputs import seeded
from runtimes.onnx_file import read_declared

PENALTIES: dict[Precision, float] = {"fp32": 0.0, "fp16": 0.1, "int8": 1.0}
ACROSS = ("precision", "inference_precision")
LAPS = 5  # block pairs and round
Shapes = Mapping[str, tuple[int, ...]]
SAMPLES = 8  # seeded, to calibrate on


@dataclass(frozen=True, slots=True)
class Narrowing:
    """The network to plan, and how to build and measure a plan of it in fewer bits, once each."""

    path: Path
    network: ir.Model
    map_: Map
    least_loss: float  # of any option that removes something
    goals: Sequence[Goal]
    rounds: int
    seed: int
    shapes: Shapes
    folder: Path
    parts: Parts
    say: Callable[[str], None]

    def measured(self, options: Sequence[str], precision: Precision) -> tuple[Measured, ...]:
        """The plan's network in that precision beside dense in fp32, on every target."""
        name = f"{precision} {' '.join(sorted(options))}"
        with saying_what_is_kept(self.say):
            return tuple(
                self.parts.once(
                    f"{name} on {goal.target.name}",
                    Measured,
                    lambda target=goal.target: self._beside(options, precision, target),
                )
                for goal in self.goals
            )

    def _beside(self, options: Sequence[str], precision: Precision, target: Target) -> Measured:
        by_id = {option.id: option for option in self.map_.options}
        source = self.folder / "planned.onnx"
        chosen = [by_id[id_] for id_ in options]
        ir.save(build(self.network, self.map_, chosen, seed=self.seed), source)
        path = narrowed_file(source, precision, target, self.folder, self.shapes, seed=self.seed)
        dense, narrow = measure(
            target,
            [self.path, path],
            rounds=self.rounds,
            seed=self.seed,
            shapes=self.shapes,
            laps=LAPS,
            warm_up_s=WARM_UP_S,
        )
        return Measured.beside(dense, narrow, across=ACROSS)

    def row(
        self,
        plan: PlanDocument,
        precision: Precision,
        predicted: Mapping[str, float],
        ids: Sequence[str] | None = None,
    ) -> FrontierRow:
        """The plan in that precision, measured; `predicted` is relative to dense in fp32."""
        if ids is None:
            ids = [option.id for option in plan.plan.options]
        found = self.measured(ids, precision)
        dense_ms = {target: one.median_ms for target, one in plan.dense_ms.items()}
        return FrontierRow(
            precision=precision,
            options=tuple(ids),
            removed_sites=plan.plan.removed_sites,
            predicted_loss=plan.plan.predicted_loss + PENALTIES[precision] * self.least_loss,
            macs=plan.plan.macs_after,
            predicted_ms={t: share * dense_ms[t] for t, share in predicted.items()},
            measured_ms={m.target: latency(m) for m in found},
            prediction_error={
                m.target: predicted[m.target] / m.ratio.value - 1
                for m in found
                if m.target in predicted
            },
            meets={
                m.target: m.meets(g.budget)
                for m, g in zip(found, self.goals, strict=True)
                if g.budget != UNLIMITED
            },
            dominated=False,
        )


def narrowed_file(
    source: Path, precision: Precision, target: Target, folder: Path, shapes: Shapes, *, seed: int
) -> Path:
    """The network in that precision, in the form that the target needs."""
    (form,) = activations_for([target])
    path = folder / f"{precision}-{form}.onnx"
    ports = read_declared(source).inputs
    fixed = [size for port in ports for size in port.shape[:1] if isinstance(size, int)]
    batch = max(fixed, default=SAMPLES)
    whole = {name: (batch, *shape[1:]) for name, shape in shapes.items()}
    noise = seeded(batch=batch, seed=seed, shapes=whole)(ports)
    make(source, precision, path, calibration=noise, activations=form)
    return path


def narrowing(
    wish: Wish,
    depth: PlanDocument,
    goals: Sequence[Goal],
    folder: Path,
    parts: Parts,
    say: Callable[[str], None],
) -> Narrowing:
    path = Path(depth.model)
    network = load_model(path)
    map_ = map_model(network, max_kernel=depth.max_kernel)
    ir.external_data.load_to_model(network)  # variants are saved in another folder
    losses = losses_of(map_.options, wish.scores)
    removing = [losses[o.id] for o in map_.options if o.sites or o.kind == "drop"]
    least = min((loss for loss in removing if loss > 0), default=1.0)
    return Narrowing(
        path, network, map_, least, goals, wish.rounds, wish.seed, depth.shapes, folder, parts, say
    )
