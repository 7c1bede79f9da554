"""The plan of a finished job, segment by segment and round by round, as its document has it."""

from __future__ import annotations

from pipeline.feedback import Attempt, Measured
from pipeline.jobs.result import Candidate, Result
from pipeline.mapping import Option, Segment
from pipeline.planning import Plan
from pipeline.reporting.documents import Difference, PlanRecord, PlanRound, SegmentPlan, TargetRound
from profiles.budget import UNLIMITED, Budget


def plan_record(result: Result, candidate: Candidate) -> PlanRecord:
    """A run has its row where it begins, and what it goes through is not kept."""
    plan, segments = candidate.planned.attempt.plan, []
    through = {run.id: run.through for run in result.map_.runs}
    for segment in result.map_.segments:
        mine = [
            (option, parts)
            for option in candidate.options
            if segment.id in (parts := through.get(option.segment, (option.segment,)))
        ]
        segments += [
            _choice(result, plan, segment, option)
            for option, parts in mine
            if parts[0] == segment.id
        ]
        if not mine:
            segments.append(_choice(result, plan, segment, None))
    return PlanRecord(
        segments=tuple(segments),
        predicted_ms=dict(plan.predicted_ms),
        predicted_loss=plan.predicted_loss,
        status=plan.status,
        rounds=tuple(_round(result, attempt) for attempt in candidate.planned.rounds),
    )


def _choice(result: Result, plan: Plan, segment: Segment, option: Option | None) -> SegmentPlan:
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
    return SegmentPlan(
        segment=option.segment,
        choice=option.kind,
        option=option.id,
        kernel=option.kernel,
        operators_before=len(option.replaces),
        operators_after=option.operators,
        removed_sites=option.sites,
        macs_before=option.macs_before,
        macs_after=option.macs,
        difference={
            table.target: Difference(
                predicted_ms=plan.differences_ms[table.target][option.id],
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
    plan = attempt.plan
    dense_ms = {table.target: table.dense.value for table in result.tables}
    return PlanRound(
        options=plan.options,
        predicted_loss=plan.predicted_loss,
        targets={
            m.target: _target_round(
                m, goal.budget, dense_ms[m.target], plan.predicted_ms[m.target], meets=meets
            )
            for m, goal, meets in zip(attempt.measured, result.goals, attempt.meets, strict=True)
        },
    )


def _target_round(
    measured: Measured, budget: Budget, dense_ms: float, predicted_ms: float, *, meets: bool
) -> TargetRound:
    """Under a relative budget everything is put on the scale of the table's dense network.

    The plan was judged by its ratio to the dense network beside it; in its own milliseconds a host
    that drifted between two rounds would seem to have moved the budget.
    """
    found, scale = measured.latency_ms, 1.0
    if budget.ratio is not None:
        found, scale = measured.ratio, dense_ms
    return TargetRound(
        predicted_ms=predicted_ms,
        measured_ms=found.value * scale,
        interval_ms=(found.lo * scale, found.hi * scale),
        budget_ms=None if budget == UNLIMITED else budget.limit_ms(dense_ms),
        meets=meets,
    )
