"""The whole job: from a recipe to a shallow network that meets its budgets, and a report.

    dense -> map -> score -> options -> latency table -> plan, build, measure, correct, again
    -> linearise -> fine-tune -> export -> collapse -> verify -> measure -> report

Nothing is trained before the plan is known to meet the budget on the target. With a frontier, plans
from dense to the fastest are trained one after another, and one of them is chosen.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.finetune import accuracy
from pipeline.jobs import candidate, predicted_losses, selection
from pipeline.jobs.choosing import floor_of
from pipeline.jobs.dense import calibrated
from pipeline.jobs.opening import goals_and_targets, opened
from pipeline.jobs.result import Candidate, Result
from pipeline.jobs.starting import start
from pipeline.jobs.summary import summarise
from pipeline.recipe import Recipe
from pipeline.report import write_report
from pipeline.reporting.documents import CompressDocument
from pipeline.reporting.progress import Reporter
from pipeline.verbs.precision_report import in_precisions


def compress(recipe: Recipe, reporter: Reporter, *, out: Path, resume: bool) -> CompressDocument:
    """Run the job, or what is left of it; the workspace `out` holds every stage and the report."""
    goals, targets = goals_and_targets(recipe)
    with opened(recipe, reporter, out=out, resume=resume) as (job, step):
        with step("dense network"):
            begun = start(job)
            dense, folder, map_, bench = begun.dense, begun.folder, begun.map_, begun.bench
            options = selection.offered(map_, recipe, dense, reporter)

        with step("scores"):
            statistics = calibrated(job, dense, folder)
            scores = selection.score_all(job, dense, statistics)
            losses = predicted_losses.alone(job, dense, map_, options, statistics, scores, folder)

        with step("latency table"):
            rules = selection.rules(job, bench, options)
            tables = [selection.latency_table(job, bench, t.target, options, folder) for t in goals]

        with step("exact merges alone"):
            exact = selection.exact_merges(job, bench, options, tables, goals)

        with step("plan"):
            pairs = predicted_losses.together(
                job, dense, map_, options, losses, tables, goals, rules, statistics, folder
            )
            outcome = selection.plan(job, bench, options, losses, tables, goals, rules, pairs)
            tried = outcome.attempts if outcome else ()
            points = selection.frontier(
                job, bench, options, losses, tables, goals, tried, rules, pairs
            )
            plans = selection.to_train(outcome, points, goals)
            chosen = [[bench.options[i] for i in p.attempt.plan.options] for p in plans]

        with step("linearise and fine-tune"):
            dense_validation = accuracy(dense, job.splits.validation)
            floor = floor_of(recipe.plan, dense_validation)
            students = candidate.students(job, dense, map_, chosen, statistics, folder, floor)

        with step("collapse"):
            collapsed = [
                candidate.collapsed(job, student, map_, part)
                for student, part in zip(students, chosen, strict=False)  # the last may be left out
            ]

        with step("verify"):
            parity = [
                tuple(candidate.verified(job, found.path, student, t) for t in targets)
                for found, student in zip(collapsed, students, strict=True)
            ]

        with step("measure"):
            measured = [
                tuple(candidate.measured(job, bench, found.path, t, goals) for t in targets)
                for found in collapsed
            ]

        result = Result(
            job=job,
            goals=tuple(goals),
            map_=map_,
            scores=scores,
            tables=tuple(tables),
            exact=exact,
            frontier=points,
            dense_path=job.workspace.deliver(folder / "dense.onnx", "dense.onnx"),
            dense_accuracy=accuracy(dense, job.splits.test),
            dense_validation=dense_validation,
            floor=floor,
            candidates=tuple(
                Candidate(
                    planned=plans[i],
                    options=tuple(chosen[i]),
                    student=student,
                    accuracy=accuracy(student.model, job.splits.test),
                    collapsed=collapsed[i],
                    parity=parity[i],
                    measured=measured[i],
                    warm_start=plans[i - 1].name if i else None,
                )
                for i, student in enumerate(students)
            ),
            untrained=tuple(plan.name for plan in plans[len(students) :]),
            seconds=step.seconds,
        )
        document = summarise(result)
        with step("precisions"):
            document = in_precisions(job, document, goals, targets)
        write_report(document, job.workspace.root)
        return document
