"""Of the networks measured in several precisions the one to take, in the words of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.feedback import Goal
from pipeline.reporting.documents import FrontierRow, Latency
from pipeline.reporting.plan_document import PlanDocument, PlanRow, RoundRow
from profiles.budget import UNLIMITED, Budget

Tried = tuple[FrontierRow, PlanDocument]  # what was measured, and the fp32 plan that it is of


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
        return [row.predicted_loss, *(ratio_of(one) for one in row.measured_ms.values())]

    def worse(row: FrontierRow) -> bool:
        others = (costs(other) for other in rows if other is not row)
        pairs = (list(zip(costs(row), other, strict=True)) for other in others)
        return any(all(b <= a for a, b in p) and any(b < a for a, b in p) for p in pairs)

    found = [replace(row, dominated=worse(row)) for row in rows]
    return tuple(sorted(found, key=lambda row: (row.predicted_loss, -max(costs(row)[1:]))))


def as_plan(kept: PlanDocument, point: FrontierRow) -> PlanDocument:
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


def _excess(row: FrontierRow, goals: Sequence[Goal]) -> float:
    return max(_excess_of(row.measured_ms[g.target.name], g.budget) for g in goals)


def _excess_of(found: Latency, budget: Budget) -> float:
    """The upper bound over the budget: what meets it is at most 1."""
    if budget.ratio is not None:
        return upper_of(found) / budget.ratio
    return found.interval_ms[1] / (budget.ms or 1.0)


def ratio_of(found: Latency) -> float:
    return 1.0 if found.ratio is None else found.ratio


def upper_of(found: Latency) -> float:
    return 1.0 if found.ratio_interval is None else found.ratio_interval[1]
