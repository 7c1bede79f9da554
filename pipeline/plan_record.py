"""The plan of a finished job, segment by segment and round by round, as its document has it."""

from __future__ import annotations

from pipeline.documents import Difference, PlanRecord, PlanRound, SegmentPlan, TargetRound
from pipeline.feedback import Attempt
from pipeline.mapping import Option, Segment
from pipeline.result import Result


def plan_record(result: Result) -> PlanRecord:
    plan = result.outcome.chosen.plan
    chosen = result.chosen
    segments = []
    for segment in result.map_.segments:
        mine = [option for option in chosen if option.segment == segment.id]
        segments += [_choice(result, segment, option) for option in mine or [None]]
    return PlanRecord(
        segments=tuple(segments),
        predicted_ms=dict(plan.predicted_ms),
        predicted_loss=plan.predicted_loss,
        status=plan.status,
        rounds=tuple(_round(result, attempt) for attempt in result.outcome.attempts),
    )


def _choice(result: Result, segment: Segment, option: Option | None) -> SegmentPlan:
    if option is None:
        shortcut = segment.shortcut is not None and segment.shortcut.operator is not None
        count = len(segment.operators) + shortcut
        return SegmentPlan(
            segment=segment.id,
            choice="keep",
            option=None,
            kernel=None,
            operators_before=count,
            operators_after=count,
            removed_sites=(),
            macs_before=segment.macs,
            macs_after=segment.macs,
            difference={},
        )
    reckoned = result.outcome.chosen.plan.differences_ms
    return SegmentPlan(
        segment=segment.id,
        choice="refit" if option.kind == "refit" else "merge",
        option=option.id,
        kernel=option.geometry.kernel,
        operators_before=result.operators(option),
        operators_after=1,
        removed_sites=option.sites,
        macs_before=option.macs_before,
        macs_after=option.macs,
        difference={
            table.target: Difference(
                predicted_ms=reckoned[table.target][option.id],
                measured_ms=table.differences[option.id].value,
                interval_ms=(
                    table.differences[option.id].lo,
                    table.differences[option.id].hi,
                ),
            )
            for table in result.tables
        },
    )


def _round(result: Result, attempt: Attempt) -> PlanRound:
    budgets = {goal.target.name: goal.budget for goal in result.goals}
    return PlanRound(
        options=attempt.plan.options,
        predicted_loss=attempt.plan.predicted_loss,
        targets={
            m.target: TargetRound(
                predicted_ms=attempt.plan.predicted_ms[m.target],
                measured_ms=m.latency_ms.value,
                interval_ms=(m.latency_ms.lo, m.latency_ms.hi),
                budget_ms=budgets[m.target].limit_ms(m.dense_ms.value),
                meets=meets,
            )
            for m, meets in zip(attempt.measured, attempt.meets, strict=True)
        },
    )
