"""From what was measured to the document of `shoal plan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

from pipeline.feedback import Attempt, Goal, Measured
from pipeline.mapping import Map
from pipeline.plans.caps import Rules
from pipeline.plans.demands import Demands
from pipeline.plans.latency_table import Tabulated
from pipeline.plans.measured_record import frontier_rows, latency
from pipeline.reporting.documents import Difference
from pipeline.reporting.plan_document import (
    CapRow,
    PlanDocument,
    PlannedFor,
    PlannedOption,
    PlanRow,
    RoundRow,
    RulesRow,
    TableSummary,
)
from profiles.budget import UNLIMITED
from profiles.remote import fingerprint_of_all


@dataclass(frozen=True, slots=True)
class Asked:
    """`searched`: for a plan; otherwise for the measurement of a given one."""

    model: str
    model_sha256: str
    max_kernel: int
    seed: int
    shapes: Mapping[str, tuple[int, ...]]
    loss: Literal["sites", "scores"]
    searched: bool


@dataclass(frozen=True, slots=True)
class Found:
    """`dense` and `tables` by goal; `predicted` relative to dense by attempt and target."""

    dense: tuple[Measured, ...]
    tables: tuple[Tabulated, ...]
    attempts: tuple[Attempt, ...]
    predicted: tuple[Mapping[str, float], ...]
    chosen: Attempt
    reasons: tuple[str, ...] = ()
    frontier: tuple[Attempt, ...] = ()


def document(
    asked: Asked,
    map_: Map,
    losses: Mapping[str, float],
    goals: Sequence[Goal],
    found: Found,
    rules: Rules,
    demands: Demands,
) -> PlanDocument:
    feasible = all(found.chosen.meets)
    measured = {m.target: latency(m) for m in found.chosen.measured}
    fastest = {target: found_ms.median_ms for target, found_ms in measured.items()}
    return PlanDocument(
        model=asked.model,
        model_sha256=asked.model_sha256,
        max_kernel=asked.max_kernel,
        seed=asked.seed,
        shapes=dict(asked.shapes),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        loss=asked.loss,
        targets=tuple(_goal(g, m) for g, m in zip(goals, found.dense, strict=True)),
        rules=_rules(rules, demands, found.chosen),
        dense_ms={m.target: latency(m) for m in found.dense},
        offered=len(found.tables[0].rows) if found.tables else 0,
        tables={
            made.target: TableSummary(
                method=made.method,
                entries=len(made.entries),
                from_cache=len(made.entries) - len(made.fresh),
                unstable=made.unstable,
            )
            for made in found.tables
        },
        plan=_plan(found, map_, losses),
        predicted_ms=dict(found.chosen.plan.predicted_ms),
        measured_ms=measured,
        rounds=tuple(_round(a, p) for a, p in zip(found.attempts, found.predicted, strict=True)),
        feasible=feasible,
        fastest_ms=fastest if asked.searched and not feasible else None,
        reasons=found.reasons,
        frontier=frontier_rows(found.frontier, map_, goals),
        fingerprint=dict(fingerprint_of_all([goal.target for goal in goals]).facts),
    )


def _goal(goal: Goal, dense: Measured) -> PlannedFor:
    free = goal.budget == UNLIMITED
    return PlannedFor(
        target=goal.target.name,
        budget=None if free else goal.budget.text,
        limit_ms=None if free else goal.budget.limit_ms(dense.latency_ms.value),
        runtime=goal.target.runtime,
        device=goal.target.device,
        threads=goal.target.threads,
        batch=goal.target.batch,
    )


def _rules(rules: Rules, demands: Demands, chosen: Attempt) -> RulesRow:
    caps = tuple(
        CapRow(
            quantity=cap.quantity.name,
            asked=cap.text,
            most=cap.most,
            dense=cap.quantity.of(()),
            planned=cap.quantity.of(chosen.plan.options),
        )
        for cap in rules.caps
    )
    return RulesRow(caps=caps, pin=demands.pin, remove=demands.remove)


def _plan(found: Found, map_: Map, losses: Mapping[str, float]) -> PlanRow:
    plan = found.chosen.plan
    by_id = {option.id: option for option in map_.options}
    chosen = [by_id[id_] for id_ in plan.options]
    rows = tuple(
        PlannedOption(
            id=option.id,
            segment=option.segment,
            kind=option.kind,
            kernel=option.kernel,
            rank=option.rank,
            border=option.border,
            absorbs_shortcut=option.absorbs_shortcut,
            sites=option.sites,
            loss=losses[option.id],
            macs=option.macs,
            macs_before=option.macs_before,
            difference={
                table.target: Difference(
                    predicted_ms=plan.differences_ms[table.target][option.id],
                    measured_ms=table.differences[option.id].value,
                    interval_ms=(table.differences[option.id].lo, table.differences[option.id].hi),
                )
                for table in (made.table for made in found.tables)
            },
        )
        for option in chosen
    )
    return PlanRow(
        options=rows,
        removed_sites=tuple(site for option in chosen for site in option.sites),
        predicted_loss=plan.predicted_loss,
        macs_before=map_.macs,
        macs_after=map_.macs - sum(o.macs_before - o.macs for o in chosen),
        status=plan.status,
        gap=plan.gap,
    )


def _round(attempt: Attempt, predicted: Mapping[str, float]) -> RoundRow:
    known = [m for m in attempt.measured if m.target in predicted]
    meets = zip(attempt.measured, attempt.meets, strict=True)
    return RoundRow(
        options=attempt.plan.options,
        predicted_loss=attempt.plan.predicted_loss,
        predicted_ms=dict(attempt.plan.predicted_ms),
        measured_ms={m.target: latency(m) for m in attempt.measured},
        prediction_error={m.target: predicted[m.target] / m.ratio.value - 1 for m in known},
        meets={m.target: met for m, met in meets},
    )
