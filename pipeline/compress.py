"""The whole job: from a recipe to a shallow network that meets its budgets, and a report.

    dense -> map -> score -> options -> latency table -> plan, build, measure, correct, again
    -> linearise -> fine-tune -> export -> collapse -> verify -> measure -> report

Nothing is trained before the plan is known to meet the budget on the target.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import candidate, selection
from pipeline.datasets import cache_folder, load_dataset
from pipeline.dense import calibrated, dense_network
from pipeline.documents import CompressDocument
from pipeline.feedback import Bench, Goal
from pipeline.finetune import accuracy
from pipeline.job import Job, set_threads
from pipeline.mapping import load_model, map_model
from pipeline.progress import Reporter
from pipeline.recipe import Recipe
from pipeline.report import write_report
from pipeline.result import Result
from pipeline.summary import summarise
from pipeline.tracing import trace
from pipeline.workspace import Workspace
from profiles.target import find_target


@dataclass(slots=True)
class Clock:
    """Wall seconds of every step, told when it starts."""

    reporter: Reporter
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        self.reporter.say(f"{step} ...")
        started = time.monotonic()
        yield
        self.seconds[step] = round(time.monotonic() - started, 3)


def compress(recipe: Recipe, reporter: Reporter, *, out: Path, resume: bool) -> CompressDocument:
    """Run the job, or what is left of it; the workspace `out` holds every stage and the report."""
    goals = [Goal(find_target(t.name, recipe.folder), t.budget) for t in recipe.targets]
    targets = [goal.target for goal in goals]
    targets += [find_target(n, recipe.folder) for n in recipe.verify if n not in targets_of(goals)]
    set_threads(recipe)
    step = Clock(reporter)
    with Workspace(out, resume=resume) as workspace:
        with step("data"):
            splits = load_dataset(
                recipe.data.dataset,
                cache=cache_folder(),
                reporter=reporter,
                folders=[recipe.folder],
            )
        job = Job(recipe, splits, workspace, reporter)

        with step("dense network"):
            model, folder = dense_network(job)
            dense = trace(model, job.example)
            network = load_model(folder / "dense.onnx")
            map_ = map_model(network, max_kernel=recipe.plan.max_kernel)
            options = selection.offered(map_, recipe, dense, reporter)

        with step("scores"):
            statistics = calibrated(job, dense, folder)
            scores = selection.score_all(job, dense, statistics)
            losses = selection.losses(job, dense, map_, options, statistics, scores, folder)

        bench = Bench(
            network,
            map_,
            workspace.scratch("bench"),
            seed=recipe.seed,
            rounds=recipe.plan.rounds,
        )
        with step("latency table"):
            tables = [selection.latency_table(job, bench, t.target, options, folder) for t in goals]

        with step("exact merges alone"):
            exact = selection.exact_merges(job, bench, options, tables, goals)

        with step("plan"):
            outcome = selection.plan(job, bench, options, losses, tables, goals)
            chosen = [bench.options[id_] for id_ in outcome.chosen.plan.options]

        with step("linearise and fine-tune"):
            student = candidate.student(job, dense, map_, chosen, statistics, folder)

        with step("collapse"):
            collapsed = candidate.collapsed(job, student, map_, chosen)

        with step("verify"):
            parity = [candidate.verified(job, collapsed.path, student, t) for t in targets]

        with step("measure"):
            measured = [candidate.measured(job, bench, collapsed.path, t) for t in targets]

        result = Result(
            job=job,
            goals=tuple(goals),
            map_=map_,
            options=tuple(options),
            scores=scores,
            tables=tuple(tables),
            exact=exact,
            outcome=outcome,
            dense_path=workspace.deliver(folder / "dense.onnx", "dense.onnx"),
            shallow_path=workspace.deliver(collapsed.path, "shallow.onnx"),
            dense_accuracy=accuracy(dense, splits.test),
            dense_validation=accuracy(dense, splits.validation),
            student=student,
            student_accuracy=accuracy(student.model, splits.test),
            student_validation=accuracy(student.model, splits.validation),
            collapsed=collapsed,
            parity=tuple(parity),
            measured=tuple(measured),
            seconds=step.seconds,
        )
        document = summarise(result)
        write_report(document, workspace.root)
        return document


def targets_of(goals: list[Goal]) -> set[str]:
    return {goal.target.name for goal in goals}
