"""Where every mark of the report's pictures goes; the templates draw them as inline SVG.

Drawn here rather than by plotly: a page with plotly.js inside is 4.8 MB and blank without scripts,
this one is some tens of kB, follows the reader's light or dark setting, and prints. Coordinates are
those of a panel 400 wide, which is about what a telephone shows, so that text never shrinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, log10
from typing import Literal

from pipeline.documents import CompressDocument, PlanRecord
from pipeline.figures import (
    accuracy_interval,
    interval,
    milliseconds,
    networks,
    percent,
    speed_up,
)

WIDTH = 400
ROW_HEIGHT = 20
LABEL_GAP = 14
LABEL_LENGTH = 22

Role = Literal["dense", "candidate", "chosen", "predicted", "measured", "removed", "kept"]


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high` on pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


@dataclass(frozen=True, slots=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A point with the ends of its intervals; `title` is what hovering shows."""

    role: Role
    title: str
    x: float
    y: float
    x_ends: tuple[float, float] | None = None
    y_ends: tuple[float, float] | None = None
    label: str = ""
    label_y: float = 0.0
    label_left: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    y: float
    label: str
    title: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture; `limit` is where the budget's line stands, `bars` draws marks from zero."""

    title: str
    describes: str
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x_label: str
    x_ticks: tuple[Tick, ...]
    y_label: str = ""
    y_ticks: tuple[Tick, ...] = ()
    marks: tuple[Mark, ...] = ()
    rows: tuple[Row, ...] = ()
    limit: float | None = None
    limit_label: str = ""
    bars: bool = False
    zero: float = 0.0
    width: float = WIDTH


def accuracy_against_latency(document: CompressDocument) -> list[Panel]:
    """One panel for each target: the dense network and the candidates, with their intervals."""
    return [
        panel
        for target in document.targets
        if (panel := _scatter(document, target.target, target.limit_ms, target.budget))
    ]


def _scatter(
    document: CompressDocument, target: str, limit_ms: float | None, budget: str | None
) -> Panel | None:
    left, right, top, bottom = 58, WIDTH - 14, 14, 246
    shown = [
        (n, r, r.measured_ms[target]) for n, r in networks(document) if target in r.measured_ms
    ]
    if not shown:
        return None
    intervals = [accuracy_interval(record.accuracy, document.test_images) for _, record, _ in shown]
    most = max(max(latency.interval_ms[1] for *_, latency in shown), limit_ms or 0.0)
    x = Scale(0.0, 1.08 * most, left, right)
    low, high = min(i[0] for i in intervals), max(i[1] for i in intervals)
    margin = max(0.12 * (high - low), 0.001)
    y = Scale(low - margin, high + margin, bottom, top)
    chosen = None if document.chosen is None else document.candidates[document.chosen].name
    marks = [
        Mark(
            role="dense" if name == "dense" else "chosen" if name == chosen else "candidate",
            title=f"{name}: {percent(record.accuracy)}, {milliseconds(latency.median_ms)} ms "
            f"({interval(latency.interval_ms)}), speed-up {speed_up(latency)}",
            x=x.at(latency.median_ms),
            y=y.at(record.accuracy),
            x_ends=(x.at(latency.interval_ms[0]), x.at(latency.interval_ms[1])),
            y_ends=(y.at(ends[0]), y.at(ends[1])),
            label=name,
            label_left=x.at(latency.median_ms) > left + 0.7 * (right - left),
        )
        for (name, record, latency), ends in zip(shown, intervals, strict=True)
    ]
    return Panel(
        title=target,
        describes=f"test accuracy against median latency on {target}, one point for each network",
        height=294,
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        x_label="median latency, ms",
        x_ticks=_ticks(x),
        y_label="test accuracy, %",
        y_ticks=tuple(Tick(t.at, t.label) for t in _ticks(y, scale_by=100)),
        marks=tuple(_apart(marks)),
        limit=None if limit_ms is None else x.at(limit_ms),
        limit_label=f"budget {budget}" if budget else "",
    )


def scores_of_sites(document: CompressDocument) -> list[Panel]:
    """One panel for each criterion: how much every activation matters, the removed ones marked."""
    removed = set()
    if document.chosen is not None:
        removed = set(document.candidates[document.chosen].removed_sites)
    names = sorted({name for site in document.sites for name in site.scores})
    panels = []
    for name in names:
        scores = [(site, site.scores.get(name)) for site in document.sites]
        values = [score for _, score in scores if score is not None]
        if not values:
            continue
        entries = []
        for site, score in scores:
            role: Role = "removed" if site.id in removed else "kept"
            title = f"{site.id} ({site.kind}), {role}: "
            title += f"{name} {score:.4g}" if score is not None else f"no {name} score"
            entries.append((site.id, title, [] if score is None else [(role, score, None)]))
        panels.append(
            _rows(name, f"{name} of every activation", entries, x_label="importance", bars=True)
        )
    return panels


def rounds_of_loop(plan: PlanRecord) -> list[Panel]:
    """One panel for each target: what every round predicted and what the network then measured."""
    targets = list(dict.fromkeys(name for turn in plan.rounds for name in turn.targets))
    panels = []
    for target in targets:
        entries, limit = [], 0.0
        for index, turn in enumerate(plan.rounds, 1):
            found = turn.targets[target]
            limit = found.budget_ms
            title = (
                f"round {index}: predicted {milliseconds(found.predicted_ms)} ms, measured "
                f"{milliseconds(found.measured_ms)} ms ({interval(found.interval_ms)})"
            )
            marks = [
                ("predicted", found.predicted_ms, None),
                ("measured", found.measured_ms, found.interval_ms),
            ]
            entries.append((f"round {index}", title, marks))
        panels.append(
            _rows(
                target,
                f"predicted and measured latency of every round on {target}",
                entries,
                x_label="latency of the whole network, ms",
                limit=limit,
            )
        )
    return panels


def _rows(
    title: str,
    describes: str,
    entries: Sequence[tuple[str, str, Sequence[tuple[Role, float, tuple[float, float] | None]]]],
    *,
    x_label: str,
    limit: float | None = None,
    bars: bool = False,
) -> Panel:
    values = [
        v for *_, marks in entries for _, value, ends in marks for v in (value, *(ends or ()))
    ]
    most = max([*values, limit or 0.0]) or 1.0
    longest = max(len(_shortened(label)) for label, *_ in entries)
    left, right, top = 14 + 6.4 * longest, WIDTH - 14, 14
    x = Scale(min(0.0, *values, 0.0), 1.08 * most, left, right)
    rows = tuple(
        Row(
            y=(y := top + ROW_HEIGHT * (index + 0.5)),
            label=_shortened(label),
            title=hover,
            marks=tuple(
                Mark(role, hover, x.at(v), y, ends and (x.at(ends[0]), x.at(ends[1])))
                for role, v, ends in marks
            ),
        )
        for index, (label, hover, marks) in enumerate(entries)
    )
    bottom = top + ROW_HEIGHT * len(rows) + 4
    return Panel(
        title=title,
        describes=describes,
        height=bottom + 48,
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        x_label=x_label,
        x_ticks=_ticks(x),
        rows=rows,
        limit=None if limit is None else x.at(limit),
        limit_label="budget" if limit is not None else "",
        bars=bars,
        zero=x.at(0.0),
    )


def _shortened(label: str) -> str:
    return label if len(label) <= LABEL_LENGTH else "\u2026" + label[1 - LABEL_LENGTH :]


def _ticks(scale: Scale, scale_by: float = 1.0, wanted: int = 5) -> tuple[Tick, ...]:
    """About `wanted` ticks at 1, 2 or 5 times a power of ten."""
    low, high = scale.low * scale_by, scale.high * scale_by
    rough = (high - low) / wanted
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    decimals = max(0, -floor(log10(step)))
    return tuple(
        Tick(scale.at(index * step / scale_by), f"{index * step:.{decimals}f}")
        for index in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)
    )


def _apart(marks: Sequence[Mark]) -> list[Mark]:
    """Labels beside their points, moved down where they would cover each other."""
    placed: list[Mark] = []
    lowest = {True: -1.0 * LABEL_GAP, False: -1.0 * LABEL_GAP}
    for mark in sorted(marks, key=lambda mark: mark.y):
        label_y = max(mark.y - 7, lowest[mark.label_left] + LABEL_GAP)
        lowest[mark.label_left] = label_y
        placed.append(replace(mark, label_y=label_y))
    return placed
