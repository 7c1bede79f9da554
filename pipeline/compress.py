"""The whole job: from a recipe to a shallow network that meets its budgets, and a report.

    dense -> map -> score -> options -> latency table -> plan, build, measure, correct, again
    -> linearise -> fine-tune -> export -> collapse -> verify -> measure -> report

Nothing is trained before the plan is known to meet the budget on the target.
"""

from __future__ import annotations

from pathlib import Path

from pipeline import candidate, selection
from pipeline.dense import calibrated, dense_network
from pipeline.documents import CompressDocument
from pipeline.feedback import Bench
from pipeline.finetune import accuracy
from pipeline.mapping import load_model, map_model
from pipeline.opening import goals_and_targets, opened
from pipeline.precision_report import in_precisions
from pipeline.progress import Reporter
from pipeline.recipe import Recipe
from pipeline.report import write_report
from pipeline.result import Result
from pipeline.summary import summarise
from pipeline.tracing import trace


def compress(recipe: Recipe, reporter: Reporter, *, out: Path, resume: bool) -> CompressDocument:
    """Run the job, or what is left of it; the workspace `out` holds every stage and the report."""
    goals, targets = goals_and_targets(recipe)
    with opened(recipe, reporter, out=out, resume=resume) as (job, step):
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
            job.workspace.scratch("bench"),
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
            dense_path=job.workspace.deliver(folder / "dense.onnx", "dense.onnx"),
            shallow_path=job.workspace.deliver(collapsed.path, "shallow.onnx"),
            dense_accuracy=accuracy(dense, job.splits.test),
            dense_validation=accuracy(dense, job.splits.validation),
            student=student,
            student_accuracy=accuracy(student.model, job.splits.test),
            student_validation=accuracy(student.model, job.splits.validation),
            collapsed=collapsed,
            parity=tuple(parity),
            measured=tuple(measured),
            seconds=step.seconds,
        )
        document = summarise(result)
        with step("precisions"):
            document = in_precisions(job, document, goals, targets)
        write_report(document, job.workspace.root)
        return document
