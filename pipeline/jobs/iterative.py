"""The job of `[procedure] kind = "iterative"`: the published loop, to the same measured artifacts.

    dense -> (score, remove, retrain) while accuracy holds -> export -> collapse -> measure

Nothing is planned, so nothing promises a budget beforehand; it is judged at the end all the same.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter

from pipeline.edits.removal import bake_masks
from pipeline.edits.surgery import detached_copy, prune_unused
from pipeline.export import export
from pipeline.feedback import Goal, Measured
from pipeline.finetune import accuracy
from pipeline.jobs import candidate
from pipeline.jobs.candidate import Student
from pipeline.jobs.choosing import Judgement, judge
from pipeline.jobs.iterative_document import IterativeDocument, NetworkRecord
from pipeline.jobs.iterative_page import write_page
from pipeline.jobs.job import Job
from pipeline.jobs.opening import goals_and_targets, opened
from pipeline.jobs.procedures import Curve, Iterated, iterate
from pipeline.jobs.starting import start
from pipeline.mapping import Map, load_model, map_model
from pipeline.recipe import Recipe
from pipeline.reporting.progress import Reporter
from pipeline.verify import Parity
from pipeline.workspace import write_whole


def compress(recipe: Recipe, reporter: Reporter, *, out: Path, resume: bool) -> IterativeDocument:
    """Run the job, or what is left of it; `out` holds every stage and the document."""
    goals, targets = goals_and_targets(recipe)
    with opened(recipe, reporter, out=out, resume=resume) as (job, step):
        with step("dense network"):
            begun = start(job)
            folder, map_, bench = begun.folder, begun.map_, begun.bench
        with step("iterate"):
            found = iterate(job, begun.dense, folder)
        with step("collapse"):
            shallow = _exported(job, found, folder)
            collapsed = candidate.merged(job, shallow, "cheaper")
        with step("verify"):
            parity = [candidate.verified(job, collapsed.path, shallow, t) for t in targets]
        with step("measure"):
            measured = [candidate.measured(job, bench, collapsed.path, t, goals) for t in targets]
        judgement = _judge(found, goals, parity, measured, shallow.validation)
        dense_path = job.workspace.deliver(folder / "dense.onnx", "dense.onnx")
        shallow_path = job.workspace.deliver(collapsed.path, "shallow.onnx")
        document = IterativeDocument(
            name=recipe.name,
            model=recipe.model.spec,
            dataset=job.splits.name,
            seed=recipe.seed,
            seconds=step.seconds,
            dense=_network(map_, found.curve.dense_test, found.curve.dense_validation, dense_path),
            shallow=_network(
                map_model(load_model(collapsed.path)),
                accuracy(found.model, job.splits.test),
                shallow.validation,
                shallow_path,
            ),
            removed_sites=found.removed,
            merges=collapsed.merges,
            curve=found.curve,
            certificate_rms_relative=collapsed.certificate.rms_relative,
            parity=tuple(parity),
            measured=tuple(measured),
            verdict=judgement.verdict,
            reasons=judgement.reasons,
            recipe=recipe.model_dump(mode="json"),
            report=str((job.workspace.root / "report.html").resolve()),
        )
        text = TypeAdapter(IterativeDocument).dump_json(document, indent=2).decode()
        write_whole(job.workspace.root / "iterative.json", text + "\n")
        write_page(document, job.workspace.root)
        return document


def _exported(job: Job, found: Iterated, after: Path) -> Student:
    """The network without masks, which are in its weights from here on, as torch and as ONNX."""
    model = detached_copy(found.model)
    bake_masks(model)
    prune_unused(model)
    key = {
        "after": after.name,
        "curve": TypeAdapter(Curve).dump_python(found.curve, mode="json"),
        "procedure": job.recipe.procedure.model_dump(mode="json"),
        "train": job.recipe.train.model_dump(mode="json"),
        "seed": job.recipe.seed,
    }

    def produce(folder: Path) -> None:
        export(model, job.example, folder / "student.onnx")

    folder = job.workspace.stage("iterated", key, produce)
    last = [point for point in found.curve.points if point.passed]
    before = last[-1].before_training if last else found.curve.dense_validation
    return Student(model, before, accuracy(model, job.splits.validation), folder)


def _network(map_: Map, test: float, validation: float, path: Path) -> NetworkRecord:
    return NetworkRecord(
        accuracy=test,
        validation_accuracy=validation,
        macs=map_.macs,
        depth=map_.depth,
        activations=len(map_.sites),
        artifact=str(path),
    )


def _judge(
    found: Iterated,
    goals: list[Goal],
    parity: list[Parity],
    measured: list[Measured],
    validation: float,
) -> Judgement:
    """By the budgets alone: the loop itself held the accuracy, and cannot promise a latency."""
    judgement = judge(goals, measured, parity, validation, floor=None)
    if found.removed:
        return judgement
    return Judgement(
        "FAIL", ("no round passed, so the network is the dense one", *judgement.reasons)
    )
