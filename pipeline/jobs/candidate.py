"""From a plan to an artifact: linearise, fine-tune, export, collapse, verify, measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx_ir as ir
import torch
from pydantic import TypeAdapter
from torch import fx

from pipeline.activations import Statistics
from pipeline.collapse import Certificate, certify, collapse
from pipeline.collapse.collapsing import How
from pipeline.edits.refitting import RIDGE, fit
from pipeline.export import export
from pipeline.feedback import Goal, Measured
from pipeline.finetune import accuracy, distil, predict
from pipeline.jobs.dense import CALIBRATION_BATCH, load_weights, schedule_of
from pipeline.jobs.job import Job, measured_on, write_bytes
from pipeline.linearise import Stencil, blank_stencil, group_weights, linearise, refit_weight
from pipeline.mapping import Map, Option, load_model
from pipeline.plans.workbench import Bench
from pipeline.verify import Parity, verify
from profiles.budget import UNLIMITED
from profiles.target import Target
from runtimes.onnx_file import sha256

CERTIFICATE_TOLERANCE = 1e-5
PARITY_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Student:
    """The edited and fine-tuned network with its validation accuracy; `before`: untrained."""

    model: fx.GraphModule
    before: float
    validation: float
    folder: Path


def student(
    job: Job,
    dense: fx.GraphModule,
    map_: Map,
    chosen: Sequence[Option],
    known: Statistics,
    after: Path,
    warm: Student | None = None,
) -> Student:
    """Linearise by the plan, fine-tune towards the dense network, export.

    `warm` is the less compressed neighbour: what both have in common starts from its weights.
    """
    recipe = job.recipe
    key = {
        "after": after.name,
        "options": [option.id for option in chosen],
        "warm": warm and warm.folder.name,
        "images": len(job.calibration),
        "finetune": recipe.finetune.model_dump(mode="json"),
        "seed": recipe.seed,
    }

    def produce(folder: Path) -> None:
        stencils = fit_in_turn(job, dense, map_, chosen, known, warm)
        model = linearise(dense, map_, chosen, statistics=known, stencils=stencils)
        inherit(model, warm)
        before = accuracy(model, job.splits.validation)
        schedule, split = schedule_of(recipe.finetune), job.splits.train
        with job.reporter.task("fine-tuning", schedule.epochs * len(split)) as step:
            distil(
                model,
                dense,
                split,
                schedule,
                weight=recipe.finetune.distillation,
                temperature=recipe.finetune.temperature,
                seed=recipe.seed + 1,
                step=step,
            )
        torch.save(model.state_dict(), folder / "weights.pt")
        write_bytes(folder / "before.json", TypeAdapter(float).dump_json(before))
        export(model, job.example, folder / "student.onnx")

    folder = job.workspace.stage("student", key, produce)
    blank = {o.id: blank_stencil(o) for o in chosen if o.fitted}
    model = linearise(dense, map_, chosen, statistics=known, stencils=blank)
    load_weights(model, folder / "weights.pt")
    before = TypeAdapter(float).validate_json((folder / "before.json").read_bytes())
    return Student(model, before, accuracy(model, job.splits.validation), folder)


def students(
    job: Job,
    dense: fx.GraphModule,
    map_: Map,
    plans: Sequence[Sequence[Option]],
    known: Statistics,
    after: Path,
    floor: float | None,
) -> list[Student]:
    """One after another, each from its neighbour's weights; the first below the floor is the last.

    A more compressed one would be expected to fall deeper still.
    """
    trained: list[Student] = []
    for index, chosen in enumerate(plans):
        warm = trained[-1] if trained else None
        trained.append(student(job, dense, map_, chosen, known, after, warm))
        job.reporter.say(
            f"  {index + 1} of {len(plans)}: {len(chosen)} replacements, validation accuracy "
            f"{trained[-1].before:.4f} before fine-tuning, {trained[-1].validation:.4f} after"
        )
        if floor is not None and trained[-1].validation < floor:
            job.reporter.say(f"  below the floor of {floor:.4f}")
            break
    return trained


@torch.no_grad()
def inherit(model: fx.GraphModule, warm: Student | None) -> None:
    """Give `model` the tensors of `warm` that have the same name: edits are named by their option.

    What `warm` had replaced and `model` keeps stays as it was in the dense network.
    """
    theirs = {} if warm is None else warm.model.state_dict()
    for name, tensor in model.state_dict().items():
        if name in theirs and theirs[name].shape == tensor.shape:
            tensor.copy_(theirs[name])


def fit_in_turn(
    job: Job,
    dense: fx.GraphModule,
    map_: Map,
    chosen: Sequence[Option],
    known: Statistics,
    warm: Student | None = None,
) -> dict[str, Stencil]:
    """Fit the chosen refits from the input on, each behind the ones already edited.

    What `warm` has fitted and trained already is left blank.
    """
    there = set() if warm is None else set(warm.model.state_dict())
    stencils: dict[str, Stencil] = {
        o.id: blank_stencil(o) for o in chosen if o.fitted and refit_weight(o) in there
    }
    new = sum(option.fitted for option in chosen) - len(stencils)
    total = new * len(job.calibration)
    with job.reporter.task("fitting smaller kernels", total) as step:
        for index, option in enumerate(chosen):
            if not option.fitted or option.id in stencils:
                continue
            edited = linearise(dense, map_, chosen[:index], statistics=known, stencils=stencils)
            inherit(edited, warm)
            batches = job.calibration.split(CALIBRATION_BATCH)
            stencils |= fit(edited, dense, map_, [option], batches, ridge=RIDGE, step=step)
    return stencils


@dataclass(frozen=True, slots=True)
class Collapsed:
    """The artifact: one operator where there was a span; `merges` counts what became one."""

    path: Path
    certificate: Certificate
    merges: int


def collapsed(job: Job, source: Student, map_: Map, chosen: Sequence[Option]) -> Collapsed:
    """Merge exactly what the plan says, certified against the exported student."""
    groups = [
        group_weights(map_.segment(option.segment), option)
        for option in chosen
        if option.kind == "merge"
    ]
    return merged(job, source, groups)


def merged(job: Job, source: Student, merge: How) -> Collapsed:
    """Merge the named groups, or whatever is worth it, certified against the exported student."""
    key = {"after": source.folder.name, "groups": merge}
    least = 0 if isinstance(merge, str) else len(merge)

    def produce(folder: Path) -> None:
        linear = load_model(source.folder / "student.onnx")
        found = collapse(linear, merge=merge)
        certificate = certify(
            linear, found.model, tolerance=CERTIFICATE_TOLERANCE, seed=job.recipe.seed
        )
        if not certificate.passed or len(found.merges) < least:
            reasons = [refusal.reason for refusal in found.refusals]
            raise RuntimeError(f"collapse broke its promise: {certificate}; {reasons}")
        ir.save(found.model, folder / "collapsed.onnx")
        write_bytes(folder / "merges.json", TypeAdapter(int).dump_json(len(found.merges)))
        text = TypeAdapter(Certificate).dump_json(certificate, indent=2)
        write_bytes(folder / "certificate.json", text)

    folder = job.workspace.stage("collapsed", key, produce)
    text = (folder / "certificate.json").read_bytes()
    merges = TypeAdapter(int).validate_json((folder / "merges.json").read_bytes())
    path = folder / "collapsed.onnx"
    return Collapsed(path, TypeAdapter(Certificate).validate_json(text), merges)


def verified(job: Job, artifact: Path, student: Student, target: Target) -> Parity:
    """The artifact on a target's runtime against the fine-tuned torch model, all test images."""
    key = {"artifact": sha256(artifact), "target": asdict(target), "student": student.folder.name}

    def make() -> Parity:
        expected = predict(student.model, job.splits.test.images)
        return verify(artifact, target, expected, job.splits.test, tolerance=PARITY_TOLERANCE)

    return job.record("parity", key, Parity, make)


def measured(
    job: Job, bench: Bench, artifact: Path, target: Target, goals: Sequence[Goal]
) -> Measured:
    """The artifact beside the dense network, until it is known whether it meets its budget."""
    budget = next((goal.budget for goal in goals if goal.target.name == target.name), UNLIMITED)
    key = {
        "artifact": sha256(artifact),
        "rounds": bench.rounds,
        "budget": budget.text,
        **measured_on(target),
    }

    def make() -> Measured:
        if budget == UNLIMITED:
            return bench.compare(artifact, target)
        return bench.decide(artifact, target, budget, say=job.reporter.say)

    return job.record("measured", key, Measured, make)
