"""Where every mark of the report's pictures goes; the templates draw them as inline SVG.

Drawn here rather than by plotly: a page with plotly.js inside is 4.8 MB and blank without scripts,
this one is some tens of kB, follows the reader's light or dark setting, and prints.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.reporting.documents import CompressDocument, PlanRecord, PlanRound
from pipeline.reporting.drawing import CHARACTER, WIDTH, Mark, Panel, Role, Row, Scale, apart, ticks
from pipeline.reporting.figures import (
    accuracy_interval,
    interval,
    milliseconds,
    networks,
    percent,
    speed_up,
)

ROW_HEIGHT = 20
LABEL_LENGTH = 22


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
    best = not_beaten([(latency.median_ms, record.accuracy) for _, record, latency in shown])
    return Panel(
        title=target,
        describes=f"test accuracy against median latency on {target}, one point for each network",
        height=294,
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        x_label="median latency, ms",
        x_ticks=ticks(x),
        y_label="test accuracy, %",
        y_ticks=ticks(y, scale_by=100),
        marks=tuple(apart(marks)),
        front=tuple((x.at(ms), y.at(accuracy)) for ms, accuracy in best),
        limit=None if limit_ms is None else x.at(limit_ms),
        limit_label=f"budget {budget}" if budget else "",
    )


def not_beaten(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (latency, accuracy) those that no other point beats in both, the fastest first."""
    best: list[tuple[float, float]] = []
    for ms, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or accuracy > best[-1][1]:
            best.append((ms, accuracy))
    return best


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


def repeats(rounds: Sequence[PlanRound]) -> list[int | None]:
    """By round, counted from 1: the first that measured the same plan, null where it is new."""
    first: dict[frozenset[str], int] = {}
    found = [first.setdefault(frozenset(r.options), index) for index, r in enumerate(rounds, 1)]
    return [None if of == index else of for index, of in enumerate(found, 1)]


def rounds_of_loop(plan: PlanRecord) -> list[Panel]:
    """One panel for each target: what every round predicted and what the network then measured."""
    targets = list(dict.fromkeys(name for turn in plan.rounds for name in turn.targets))
    taken = {part.option for part in plan.segments if part.option}
    last = max((i for i, r in enumerate(plan.rounds, 1) if set(r.options) == taken), default=0)
    panels = []
    for target in targets:
        entries, limit = [], None
        for index, (turn, of) in enumerate(zip(plan.rounds, repeats(plan.rounds), strict=True), 1):
            found = turn.targets[target]
            same = f", the plan of round {of} again" if of else ""
            limit = found.budget_ms
            title = (
                f"round {index}{same}: predicted {milliseconds(found.predicted_ms)} ms, measured "
                f"{milliseconds(found.measured_ms)} ms ({interval(found.interval_ms)})"
            )
            marks = [
                ("predicted", found.predicted_ms, None),
                ("measured", found.measured_ms, found.interval_ms),
            ]
            label = f"round {index}{', again' if of else ''}{', taken' if index == last else ''}"
            entries.append((label, title, marks))
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
    left, right, top = 14 + CHARACTER * longest, WIDTH - 14, 14
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
        x_ticks=ticks(x),
        rows=rows,
        limit=None if limit is None else x.at(limit),
        limit_label="budget" if limit is not None else "",
        bars=bars,
        zero=x.at(0.0),
    )


def _shortened(label: str) -> str:
    return label if len(label) <= LABEL_LENGTH else "\u2026" + label[1 - LABEL_LENGTH :]
