"""The document of `shoal plan`: what to replace, what that was predicted and measured to take.

It is a file of its own: `shoal plan --from` measures the plan in it again, and
`shoal collapse --merge` carries it out where it holds exact merges alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rich.console import Group
from rich.table import Table

from pipeline.graphs.segments import Kind
from pipeline.reporting.documents import Difference, FrontierRow, Latency
from runtimes.base import Precision

NOT_MET = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFor:
    """What was asked of one target, and what it is: a time without these means nothing.

    A target that a frontier was asked for may have no budget.
    """

    target: str
    budget: str | None
    limit_ms: float | None
    runtime: str
    device: str
    threads: int
    batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedOption:
    """`difference` by target as the last table reckoned and measured it; empty in a re-measurement.

    `loss` is the number of removed sites, or the sum of their scores, and up to a thousandth of one
    for what the option keeps less of than a merge would.
    """

    id: str
    segment: str
    kind: Kind
    kernel: tuple[int, ...]
    rank: int | None
    border: str
    absorbs_shortcut: bool
    sites: tuple[str, ...]
    loss: float
    macs: int
    macs_before: int
    difference: dict[str, Difference]


@dataclass(frozen=True, slots=True, kw_only=True)
class CapRow:
    """One capped quantity, for one sample; `peak_bytes` is an estimate, the others are exact.

    peak_bytes: weights, and the values that are alive at once in graph order.
    """

    quantity: Literal["macs", "bytes", "peak_bytes", "operators", "removed"]
    asked: str
    most: float
    dense: float
    planned: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesRow:
    """What was asked besides latency; `pin` stays, `remove` goes: ids of sites or segments."""

    caps: tuple[CapRow, ...] = ()
    pin: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRow:
    """No options: keep everything."""

    options: tuple[PlannedOption, ...]
    removed_sites: tuple[str, ...]
    predicted_loss: float
    macs_before: int
    macs_after: int
    status: str
    gap: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRow:
    """One turn of the loop; a plan that measured far from its prediction has a second one.

    `prediction_error`: predicted over measured, both relative to dense beside them, minus one.
    """

    options: tuple[str, ...]
    predicted_loss: float
    predicted_ms: dict[str, float]
    measured_ms: dict[str, Latency]
    prediction_error: dict[str, float]
    meets: dict[str, bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSummary:
    """Of one target's latency table; `shoal table` shows the whole."""

    method: Literal["isolated", "in context"]
    entries: int
    from_cache: int
    unstable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDocument:
    """`fastest_ms`: what came nearest to the budgets, where nothing met them; null else.

    `shapes` of inputs, batch in front, where the network leaves more than the batch open.
    `offered` options are in the `tables`: none where dense already meets its budgets.
    `precision` is that of the plan as measured; `precisions`, where several were asked for, are the
    network as it is and planned in each of them: depth, precision and both.
    `frontier`: where it was asked for, plans from dense to the fastest, all from the same table.
    """

    schema: Literal["shoal.plan/1"] = "shoal.plan/1"
    model: str
    model_sha256: str
    max_kernel: int
    seed: int
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    date: str
    loss: Literal["sites", "scores"]
    targets: tuple[PlannedFor, ...]
    rules: RulesRow
    dense_ms: dict[str, Latency]
    offered: int
    tables: dict[str, TableSummary]
    plan: PlanRow
    predicted_ms: dict[str, float]
    measured_ms: dict[str, Latency]
    rounds: tuple[RoundRow, ...]
    feasible: bool
    fastest_ms: dict[str, float] | None
    reasons: tuple[str, ...]
    frontier: tuple[FrontierRow, ...] = ()
    precision: Precision = "fp32"
    precisions: tuple[FrontierRow, ...] = ()
    fingerprint: dict[str, str | int | None]


def exit_code(document: PlanDocument) -> int:
    return 0 if document.feasible else NOT_MET


def show_plan(document: PlanDocument) -> Group:
    """What is replaced, what it takes on every target, and how the search went."""
    chosen = Table(title=f"replaced in {document.model}", title_justify="left")
    for column in ("option", "removes", "MACs", "changes"):
        chosen.add_column(column)
    for option in document.plan.options:
        changes = "\n".join(
            f"{target} {found.measured_ms:+.4g} ms" for target, found in option.difference.items()
        )
        macs = f"{option.macs_before:,} -> {option.macs:,}"
        chosen.add_row(option.id, "\n".join(option.sites), macs, changes)
    times = Table(title="latency", title_justify="left")
    for column in ("target", "budget", "dense", "predicted", "measured", "of dense"):
        times.add_column(column)
    for goal in document.targets:
        predicted = document.predicted_ms.get(goal.target)
        found = document.measured_ms[goal.target]
        times.add_row(
            goal.target,
            goal.budget or "none",
            f"{document.dense_ms[goal.target].median_ms:.4g} ms",
            "" if predicted is None else f"{predicted:.4g} ms",
            f"{found.median_ms:.4g} ms [{found.interval_ms[0]:.4g}, {found.interval_ms[1]:.4g}]",
            f"{found.ratio:.3f}x" if found.ratio is not None else "",
        )
    plan = document.plan
    removed = f"{len(plan.removed_sites)} activations removed by {len(plan.options)} replacements"
    verdict = "meets every budget" if document.feasible else "does not meet the budget"
    if document.precisions:
        verdict = f"in {document.precision} it {verdict}"
    if all(goal.budget is None for goal in document.targets):
        verdict = "no budget was given"
    summary = f"{verdict}: {removed}, {len(document.rounds)} rounds, {document.offered} offered"
    tables = [chosen, times] if plan.options else [times]
    if document.rules.caps:
        tables.append(_caps(document.rules))
    tables += _rows("depth, precision and both", document.precisions)
    tables += _rows("from the network as it is to the fastest plan", document.frontier)
    return Group(*tables, summary, *document.reasons)


def _caps(rules: RulesRow) -> Table:
    shown = Table(title="caps", title_justify="left")
    for column in ("quantity", "at most", "dense", "planned"):
        shown.add_column(column)
    for cap in rules.caps:
        estimate = " (estimate)" if cap.quantity == "peak_bytes" else ""
        numbers = (f"{number:,.0f}" for number in (cap.most, cap.dense, cap.planned))
        shown.add_row(cap.quantity + estimate, *numbers)
    return shown


def _rows(title: str, rows: tuple[FrontierRow, ...]) -> list[Table]:
    """One line for each plan and target; no table of none."""
    if not rows:
        return []
    table = Table(title=title, title_justify="left")
    for column in ("plan", "removed", "loss", "MACs", "target", "predicted", "measured"):
        table.add_column(column)
    table.add_column("of dense")
    table.add_column("")
    for index, row in enumerate(rows):
        plan = f"{index} {row.precision}"
        first = (plan, f"{len(row.removed_sites)}", f"{row.predicted_loss:.4g}")
        for target, found in row.measured_ms.items():
            over = "" if row.meets.get(target, True) else "over the budget"
            remarks = [remark for remark in ("dominated" if row.dominated else "", over) if remark]
            lo, hi = found.interval_ms
            table.add_row(
                *first,
                f"{row.macs:,}" if first[0] else "",
                target,
                f"{row.predicted_ms[target]:.4g} ms" if target in row.predicted_ms else "",
                f"{found.median_ms:.4g} ms [{lo:.4g}, {hi:.4g}]",
                "1x" if found.ratio is None else f"{found.ratio:.3f}x",
                ", ".join(remarks),
            )
            first = ("", "", "")
    return [table]
