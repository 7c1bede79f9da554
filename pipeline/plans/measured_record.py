"""What was measured, as every document has it."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.feedback import Attempt, Goal, Measured
from pipeline.mapping import Map
from pipeline.plans.frontier import dominated
from pipeline.reporting.documents import FrontierRow, Latency
from profiles.budget import UNLIMITED


def latency(measured: Measured) -> Latency:
    """Beside the dense network; both intervals have at least the confidence."""
    return Latency(
        median_ms=measured.latency_ms.value,
        interval_ms=(measured.latency_ms.lo, measured.latency_ms.hi),
        ratio=measured.ratio.value,
        ratio_interval=(measured.ratio.lo, measured.ratio.hi),
        confidence=min(measured.latency_ms.confidence, measured.ratio.confidence),
        rounds=measured.rounds,
        samples=measured.samples,
    )


def frontier_rows(
    attempts: Sequence[Attempt], map_: Map, goals: Sequence[Goal]
) -> tuple[FrontierRow, ...]:
    """The first attempt keeps everything: what is predicted is relative to what it predicts."""
    rows = []
    by_id = {option.id: option for option in map_.options}
    for attempt, worse in zip(attempts, dominated(attempts), strict=True):
        plan = attempt.plan
        chosen = [by_id[id_] for id_ in plan.options]
        dense_ms = attempts[0].plan.predicted_ms
        rows.append(
            FrontierRow(
                options=plan.options,
                removed_sites=tuple(site for option in chosen for site in option.sites),
                predicted_loss=plan.predicted_loss,
                macs=map_.macs - sum(option.macs_before - option.macs for option in chosen),
                predicted_ms=dict(plan.predicted_ms),
                measured_ms={m.target: latency(m) for m in attempt.measured},
                prediction_error={
                    m.target: plan.predicted_ms[m.target] / dense_ms[m.target] / m.ratio.value - 1
                    for m in attempt.measured
                },
                meets={
                    goal.target.name: met
                    for goal, met in zip(goals, attempt.meets, strict=True)
                    if goal.budget != UNLIMITED
                },
                dominated=worse,
            )
        )
    return tuple(rows)
