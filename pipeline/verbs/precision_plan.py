"""Precision beside depth: the least loss of fp32, of fewer bits, and of both together.

Quantising comes after planning, because a plan is made on an fp32 graph; so precision is one choice
for the whole network. How much it saves is measured, first on the dense network and then on every
planned one, and a plan for eight bits is the fp32 plan of a budget that much wider:

    budget of the fp32 plan = budget / scale        scale = time in eight bits / time in fp32

The scale of the last network measured corrects the next budget; it ends when the plan repeats.
All of it is one job: cut short, it goes on where it was, and writes nothing before it is done.
Latency does not depend on weights, nor on what the ranges were calibrated with: random inputs do.
Accuracy does, so here fewer bits cost by convention what `precision_bench.PENALTIES` says, in
units of the least that a removal loses; `shoal export` and `shoal compress` measure the real cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace

from pipeline.plans.resumed import Parts, job_of
from pipeline.plans.scratch import scratch
from pipeline.reporting.documents import FrontierRow
from pipeline.reporting.output import check_out
from pipeline.reporting.plan_document import PlanDocument
from pipeline.reporting.progress import Reporter
from pipeline.verbs.plan_file import PlanFile, goals_of, predicted_ratios, read_plan, text_of
from pipeline.verbs.planned import Wish, network_of, plan_file, write_plan
from pipeline.verbs.precision_bench import Narrowing, narrowed_file, narrowing
from pipeline.verbs.precision_choice import (
    Tried,
    as_plan,
    as_row,
    chosen,
    keeping,
    ranked,
    ratio_of,
    upper_of,
)
from profiles.budget import Budget
from profiles.store import Store, registry_folder
from runtimes.base import Precision
from runtimes.onnx_file import sha256

SCALINGS = 3  # plans tried in one precision, beside the dense network


def plan_in_precisions(
    wish: Wish, precisions: Sequence[Precision], reporter: Reporter
) -> PlanDocument:
    """The plan of least loss over the precisions; `wish.out` gets the document.

    A plan from a file is measured in the one precision asked for, or else in its own.
    """
    filed = read_plan(wish.source) if wish.source else None
    precisions = precisions or (filed.precision if filed else "fp32",)
    narrow: list[Precision] = [precision for precision in precisions if precision != "fp32"]
    if not narrow:
        return plan_file(wish, reporter)
    path = network_of(wish, filed)
    goals = goals_of(wish.targets, wish.budgets, filed, unlimited=wish.frontier > 0)
    check_out(wish.out, path, wish.scores)
    shapes = wish.shapes or (filed.shapes if filed else {})
    files = ((wish.scores, "--scores"), (wish.source, "--from"))
    given = [text_of(file, flag) for file, flag in files if file]
    with (
        scratch() as folder,
        closing(Store(registry_folder())) as store,
    ):
        for precision in narrow:
            for goal in goals:  # what cannot be made is refused before minutes of measuring
                narrowed_file(path, precision, goal.target, folder, shapes, seed=wish.seed)
        wish_ = asdict(replace(wish, out=None))
        job = {"wish": wish_, "network": sha256(path), "given": given, "precisions": precisions}
        parts = Parts(store, job_of(job))
        within = replace(wish, out=None)
        depth = parts.once("fp32", PlanDocument, lambda: plan_file(within, reporter))
        bench = narrowing(wish, depth, goals, folder, parts, reporter.say)
        made = _in_all(bench, within, depth, precisions, filed, reporter)
        write_plan(made, wish.out)
        parts.finished()
    return made


def _in_all(
    bench: Narrowing,
    wish: Wish,
    depth: PlanDocument,
    precisions: Sequence[Precision],
    filed: PlanFile | None,
    reporter: Reporter,
) -> PlanDocument:
    kept, goals = keeping(depth), bench.goals
    tried: list[Tried] = []
    points: list[FrontierRow] = []
    if "fp32" in precisions:
        whole = [] if ruled(depth) else [kept]
        whole += [depth] if depth.plan.options else []
        tried = [(as_row(one, goals), one) for one in whole]
        points = list(depth.frontier)
    enough = any(all(row.meets.values()) and not row.options for row, _ in tried)
    for precision in precisions if wish.frontier or not enough else ():
        if precision == "fp32":
            continue
        reporter.say(f"the same in {precision}")
        if filed:
            ratios = predicted_ratios(filed, goals, precision)
            tried.append((bench.row(depth, precision, ratios), depth))
            continue
        tried += narrowed(bench, wish, depth, precision, reporter)
        alone = bench.row(kept, precision, {})
        for one in depth.frontier:
            ratios = {
                target: ratio_of(found) * ratio_of(alone.measured_ms[target])
                for target, found in one.measured_ms.items()
                if one.options
            }
            points.append(bench.row(as_plan(kept, one), precision, ratios, one.options))
    return replace(chosen(depth, tried, goals), frontier=ranked(points))


def ruled(document: PlanDocument) -> bool:
    """The network as it is keeps not every rule: some of it has to go, whatever the budget."""
    rules = document.rules
    return bool(rules.remove) or any(cap.dense > cap.most for cap in rules.caps)


def narrowed(
    bench: Narrowing, wish: Wish, depth: PlanDocument, precision: Precision, reporter: Reporter
) -> list[Tried]:
    """Precision alone, and as much depth with it as the budgets and rules still ask for."""
    kept = keeping(depth)
    row = bench.row(kept, precision, {})
    tried = [] if ruled(depth) else [(row, kept)]
    scale = row.measured_ms
    for _ in range(SCALINGS):
        if tried and all(row.meets.values()) and not row.options:
            break
        base = depth
        if wish.budgets:
            budgets = tuple(
                _wider(goal.budget, upper_of(scale[goal.target.name])) for goal in bench.goals
            )
            wider = replace(wish, budgets=budgets, frontier=0)
            base = bench.parts.once(
                f"fp32 within {budgets}",
                PlanDocument,
                lambda wider=wider: plan_file(wider, reporter),
            )
        ids = tuple(option.id for option in base.plan.options)
        if ids in [one.options for one, _ in tried]:
            break
        alone = {target: ratio_of(one) for target, one in base.measured_ms.items()}
        row = bench.row(base, precision, {t: ratio_of(scale[t]) * alone[t] for t in alone})
        tried.append((row, base))
        scale = {
            target: replace(
                found,
                ratio=ratio_of(found) / alone[target],
                ratio_interval=(0.0, upper_of(found) / alone[target]),
            )
            for target, found in row.measured_ms.items()
        }
    return tried


def _wider(budget: Budget, scale: float) -> str:
    if budget.ratio is not None:
        return f"{budget.ratio / scale:.9f}x"
    return f"{(budget.ms or 0.0) / scale:.9f}ms"
