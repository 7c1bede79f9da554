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

import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from pipeline.feedback import Goal
from pipeline.plans.resumed import Parts, job_of
from pipeline.reporting.documents import FrontierRow, Latency
from pipeline.reporting.output import check_out
from pipeline.reporting.plan_document import PlanDocument, PlanRow, RoundRow
from pipeline.reporting.progress import Reporter
from pipeline.verbs.plan_file import PlanFile, goals_of, predicted_ratios, read_plan, text_of
from pipeline.verbs.planned import Wish, network_of, plan_file, write_plan
from pipeline.verbs.precision_bench import Narrowing, narrowed_file, narrowing
from profiles.budget import UNLIMITED, Budget
from profiles.store import Store, registry_folder
from runtimes.base import Precision
from runtimes.onnx_file import sha256

SCALINGS = 3  # plans tried in one precision, beside the dense network

Tried = tuple[FrontierRow, PlanDocument]  # what was measured, and the fp32 plan that it is of


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
        tempfile.TemporaryDirectory(prefix="shoal-plan-") as folder,
        closing(Store(registry_folder())) as store,
    ):
        for precision in narrow:
            for goal in goals:  # what cannot be made is refused before minutes of measuring
                narrowed_file(path, precision, goal.target, Path(folder), shapes, seed=wish.seed)
        wish_ = asdict(replace(wish, out=None))
        job = {"wish": wish_, "network": sha256(path), "given": given, "precisions": precisions}
        parts = Parts(store, job_of(job))
        within = replace(wish, out=None)
        depth = parts.once("fp32", PlanDocument, lambda: plan_file(within, reporter))
        bench = narrowing(wish, depth, goals, Path(folder), parts, reporter.say)
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
                target: _ratio(found) * _ratio(alone.measured_ms[target])
                for target, found in one.measured_ms.items()
                if one.options
            }
            points.append(bench.row(_as_plan(kept, one), precision, ratios, one.options))
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
                _wider(goal.budget, _upper(scale[goal.target.name])) for goal in bench.goals
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
        alone = {target: _ratio(one) for target, one in base.measured_ms.items()}
        row = bench.row(base, precision, {t: _ratio(scale[t]) * alone[t] for t in alone})
        tried.append((row, base))
        scale = {
            target: replace(
                found,
                ratio=_ratio(found) / alone[target],
                ratio_interval=(0.0, _upper(found) / alone[target]),
            )
            for target, found in row.measured_ms.items()
        }
    return tried


def chosen(depth: PlanDocument, tried: Sequence[Tried], goals: Sequence[Goal]) -> PlanDocument:
    """The least loss among those that meet every budget, or else what comes nearest."""
    rows = ranked([row for row, _ in tried])
    fitting = [one for one in tried if all(one[0].meets.values())]
    if fitting:
        row, base = min(fitting, key=lambda one: (one[0].predicted_loss, _excess(one[0], goals)))
    else:
        row, base = min(tried, key=lambda one: _excess(one[0], goals))
    if row.precision == "fp32":
        return replace(depth, precisions=rows)
    feasible = all(row.meets.values())
    same = [one for one, _ in tried if one.precision == row.precision]
    over = () if feasible else (f"the nearest is in {row.precision}, and over the budget",)
    return replace(
        base,
        precision=row.precision,
        targets=depth.targets,
        dense_ms=depth.dense_ms,
        offered=depth.offered,
        plan=replace(base.plan, predicted_loss=row.predicted_loss),
        predicted_ms=row.predicted_ms,
        measured_ms=row.measured_ms,
        rounds=tuple(_round(one) for one in same),
        feasible=feasible,
        fastest_ms=None if feasible else {t: m.median_ms for t, m in row.measured_ms.items()},
        reasons=over,
        precisions=rows,
    )


def keeping(document: PlanDocument) -> PlanDocument:
    """The network as it is, in the words of a plan."""
    plan = document.plan
    nothing = PlanRow(
        options=(),
        removed_sites=(),
        predicted_loss=0.0,
        macs_before=plan.macs_before,
        macs_after=plan.macs_before,
        status="keeps everything",
        gap=0.0,
    )
    as_it_is = {target: one.median_ms for target, one in document.dense_ms.items()}
    caps = tuple(replace(cap, planned=cap.dense) for cap in document.rules.caps)
    return replace(
        document,
        rules=replace(document.rules, caps=caps),
        plan=nothing,
        predicted_ms=as_it_is,
        measured_ms=document.dense_ms,
        rounds=(),
    )


def as_row(document: PlanDocument, goals: Sequence[Goal]) -> FrontierRow:
    """A plan in fp32, as it was measured."""
    found = document.measured_ms
    return FrontierRow(
        options=tuple(option.id for option in document.plan.options),
        removed_sites=document.plan.removed_sites,
        predicted_loss=document.plan.predicted_loss,
        macs=document.plan.macs_after,
        predicted_ms=document.predicted_ms,
        measured_ms=found,
        prediction_error={},
        meets={
            g.target.name: _excess_of(found[g.target.name], g.budget) <= 1
            for g in goals
            if g.budget != UNLIMITED
        },
        dominated=False,
    )


def ranked(rows: Sequence[FrontierRow]) -> tuple[FrontierRow, ...]:
    """By loss; dominated is what loses as much as another that is faster everywhere."""

    def costs(row: FrontierRow) -> list[float]:
        return [row.predicted_loss, *(_ratio(one) for one in row.measured_ms.values())]

    def worse(row: FrontierRow) -> bool:
        others = (costs(other) for other in rows if other is not row)
        pairs = (list(zip(costs(row), other, strict=True)) for other in others)
        return any(all(b <= a for a, b in p) and any(b < a for a, b in p) for p in pairs)

    found = [replace(row, dominated=worse(row)) for row in rows]
    return tuple(sorted(found, key=lambda row: (row.predicted_loss, -max(costs(row)[1:]))))


def _as_plan(kept: PlanDocument, point: FrontierRow) -> PlanDocument:
    """A point of the frontier, for what `Narrowing.row` reads of a plan."""
    plan = replace(
        kept.plan,
        removed_sites=point.removed_sites,
        predicted_loss=point.predicted_loss,
        macs_after=point.macs,
    )
    return replace(kept, plan=plan)


def _round(row: FrontierRow) -> RoundRow:
    return RoundRow(
        options=row.options,
        predicted_loss=row.predicted_loss,
        predicted_ms=row.predicted_ms,
        measured_ms=row.measured_ms,
        prediction_error=row.prediction_error,
        meets=row.meets,
    )


def _wider(budget: Budget, scale: float) -> str:
    if budget.ratio is not None:
        return f"{budget.ratio / scale:.9f}x"
    return f"{(budget.ms or 0.0) / scale:.9f}ms"


def _excess(row: FrontierRow, goals: Sequence[Goal]) -> float:
    return max(_excess_of(row.measured_ms[g.target.name], g.budget) for g in goals)


def _excess_of(found: Latency, budget: Budget) -> float:
    """The upper bound over the budget: what meets it is at most 1."""
    if budget.ratio is not None:
        return _upper(found) / budget.ratio
    return found.interval_ms[1] / (budget.ms or 1.0)


def _ratio(found: Latency) -> float:
    return 1.0 if found.ratio is None else found.ratio


def _upper(found: Latency) -> float:
    return 1.0 if found.ratio_interval is None else found.ratio_interval[1]
