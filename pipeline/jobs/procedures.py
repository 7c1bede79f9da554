"""The published loop: score, remove, retrain, until validation accuracy falls too far below dense.

    while dense - accuracy <= tolerance:  remove by the criterion;  train again, full schedule

Weights go on from where they were (no rewinding), the optimiser and its schedule start anew. The
last network that passed is kept. The dense network trained for the same epochs stands beside every
round: what is gained over it is the method's, the rest is more training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import fx

from pipeline import criteria
from pipeline.activations import collect
from pipeline.criteria import Evidence
from pipeline.edits.surgery import detached_copy
from pipeline.edits.tracing import set_training, sites
from pipeline.finetune import accuracy, train
from pipeline.jobs.dense import CALIBRATION_BATCH, load_weights, schedule_of
from pipeline.jobs.job import Job


@dataclass(frozen=True, slots=True)
class Point:
    """One round: what it removed, and what was left after training; accuracies are fractions.

    The test accuracies are recorded and decide nothing. `epochs` counts all rounds so far, the
    dense network's own training not included.
    """

    round: int
    removed: tuple[str, ...]
    activations: int
    epochs: int
    before_training: float
    validation: float
    test: float
    control_validation: float | None
    control_test: float | None
    passed: bool


@dataclass(frozen=True, slots=True)
class Curve:
    """All rounds, the first that did not pass included; round 0 is the dense network."""

    criterion: str
    dense_validation: float
    dense_test: float
    tolerance: float
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Iterated:
    """The last network that passed, which may be the dense one, and the way there."""

    model: fx.GraphModule
    removed: tuple[str, ...]
    curve: Curve


def iterate(job: Job, dense: fx.GraphModule, after: Path) -> Iterated:
    """Run the recipe's [procedure]; every round's training is a stage that can be resumed."""
    rule = job.recipe.procedure
    criterion = criteria.make(rule.criterion, rule.options)
    validation, test = job.splits.validation, job.splits.test
    dense_validation = accuracy(dense, validation)
    kept, model, control = dense, dense, dense if rule.control else None
    points: list[Point] = []
    for number in range(1, rule.rounds + 1):
        if not sites(model):
            break
        job.reporter.say(f"round {number}: {len(sites(model))} activations left ...")
        reduced = criterion.reduce(_evidence(job, model), rule.per_round)
        removed = tuple(sorted(_ids(model) - _ids(reduced)))
        before = accuracy(reduced, validation)
        again = None if control is None else detached_copy(control)
        after = _train(job, number, after, reduced, again)
        reached = accuracy(reduced, validation)
        points.append(
            Point(
                round=number,
                removed=removed,
                activations=len(sites(reduced)),
                epochs=number * job.recipe.train.epochs,
                before_training=before,
                validation=reached,
                test=accuracy(reduced, test),
                control_validation=None if again is None else accuracy(again, validation),
                control_test=None if again is None else accuracy(again, test),
                passed=dense_validation - reached <= rule.tolerance,
            )
        )
        _tell(job, points[-1])
        if not points[-1].passed:
            break
        kept = model = reduced
        control = again
    curve = Curve(
        rule.criterion, dense_validation, accuracy(dense, test), rule.tolerance, tuple(points)
    )
    return Iterated(kept, tuple(sorted(_ids(dense) - _ids(kept))), curve)


def _evidence(job: Job, model: fx.GraphModule) -> Evidence:
    batches = job.calibration.split(CALIBRATION_BATCH)
    with job.reporter.task("calibrating", len(job.calibration)) as step:
        statistics = collect(model, batches, step=step)
    return Evidence(model, statistics, job.splits.calibration.first(len(job.calibration)))


def _train(
    job: Job, number: int, after: Path, reduced: fx.GraphModule, control: fx.GraphModule | None
) -> Path:
    """Train both in place by [train], or load what an earlier run trained; the stage's folder."""
    rule, recipe = job.recipe.procedure, job.recipe
    key = {
        "after": after.name,
        "round": number,
        "criterion": rule.criterion,
        "options": rule.options,
        "per_round": rule.per_round,
        "images": len(job.calibration),
        "train": recipe.train.model_dump(mode="json"),
        "control": control is not None,
        "seed": recipe.seed,
    }
    networks = {"weights.pt": reduced} | ({"control.pt": control} if control else {})

    def produce(folder: Path) -> None:
        schedule, split = schedule_of(recipe.train), job.splits.train
        total = len(networks) * schedule.epochs * len(split)
        with job.reporter.task(f"training, round {number}", total) as step:
            for name, network in networks.items():
                _fit(job, network, seed=recipe.seed + number, step=step)
                torch.save(network.state_dict(), folder / name)

    folder = job.workspace.stage("round", key, produce)
    for name, network in networks.items():
        load_weights(network, folder / name)
    return folder


def _fit(job: Job, network: fx.GraphModule, *, seed: int, step: Callable[[int], None]) -> None:
    set_training(network, True)
    train(network, job.splits.train, schedule_of(job.recipe.train), seed=seed, step=step)
    set_training(network, False)


def _ids(model: fx.GraphModule) -> set[str]:
    return {site.id for site in sites(model)}


def _tell(job: Job, point: Point) -> None:
    beside = ""
    if point.control_validation is not None:
        beside = f", dense trained as long {point.control_validation:.4f}"
    job.reporter.say(
        f"  removed {', '.join(point.removed) or 'none'}: validation {point.validation:.4f}"
        f"{beside}: {'passed' if point.passed else 'too low'}"
    )
