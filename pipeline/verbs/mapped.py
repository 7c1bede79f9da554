"""The document of `shoal map`: what can be shortened, at what cost, and what cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group
from rich.table import Table

from pipeline.mapping import Map, Option, Segment, load_model, map_model


@dataclass(frozen=True, slots=True)
class SiteRow:
    id: str
    kind: str
    node: str
    segment: str | None
    channels: int | None
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class OperatorRow:
    node: str
    op: str
    weight: str
    scope: str
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    groups: int
    in_channels: int
    out_channels: int
    macs: int


@dataclass(frozen=True, slots=True)
class OptionRow:
    id: str
    kind: str
    kernel: tuple[int, ...]
    rank: int | None
    macs: int
    macs_before: int
    sites: tuple[str, ...]
    absorbs_shortcut: bool
    border: str


@dataclass(frozen=True, slots=True)
class SegmentRow:
    id: str
    sites: tuple[str, ...]
    operators: tuple[OperatorRow, ...]
    shortcut: str | None
    options: tuple[OptionRow, ...]
    macs_before: int


@dataclass(frozen=True, slots=True)
class RunRow:
    """Options that reach from one segment into the next, `through` both."""

    id: str
    through: tuple[str, ...]
    sites: tuple[str, ...]
    operators: tuple[OperatorRow, ...]
    options: tuple[OptionRow, ...]
    macs_before: int


@dataclass(frozen=True, slots=True)
class RefusalRow:
    site: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MapDocument:
    """`macs` are those of one sample; of one token, where the network reads text."""

    schema: str = "shoal.map/1"
    model: str
    sites: tuple[SiteRow, ...]
    segments: tuple[SegmentRow, ...]
    runs: tuple[RunRow, ...]
    refusals: tuple[RefusalRow, ...]
    macs: int
    depth: int


def map_file(path: Path, *, max_kernel: int) -> MapDocument:
    return document(str(path), map_model(load_model(path), max_kernel=max_kernel))


def document(name: str, found: Map) -> MapDocument:
    return MapDocument(
        model=name,
        sites=tuple(
            SiteRow(s.id, s.kind, s.node, s.segment, s.channels, s.shape) for s in found.sites
        ),
        segments=tuple(_segment(segment) for segment in found.segments),
        runs=tuple(_run(run) for run in found.runs),
        refusals=tuple(RefusalRow(r.site, r.reason) for r in found.refusals),
        macs=found.macs,
        depth=found.depth,
    )


def _segment(segment: Segment) -> SegmentRow:
    return SegmentRow(
        id=segment.id,
        sites=segment.sites,
        operators=_operators(segment),
        shortcut=segment.shortcut.kind if segment.shortcut else None,
        options=tuple(_option(option) for option in segment.options),
        macs_before=segment.macs,
    )


def _run(run: Segment) -> RunRow:
    return RunRow(
        id=run.id,
        through=run.through,
        sites=run.sites,
        operators=_operators(run),
        options=tuple(_option(option) for option in run.options),
        macs_before=run.macs,
    )


def _operators(segment: Segment) -> tuple[OperatorRow, ...]:
    return tuple(
        OperatorRow(
            node=o.node,
            op=o.op,
            weight=o.weight,
            scope=o.scope,
            kernel=o.geometry.kernel,
            strides=o.geometry.strides,
            groups=o.geometry.groups,
            in_channels=o.geometry.in_channels,
            out_channels=o.geometry.out_channels,
            macs=o.macs,
        )
        for o in segment.operators
    )


def _option(option: Option) -> OptionRow:
    return OptionRow(
        id=option.id,
        kind=option.kind,
        kernel=option.kernel,
        rank=option.rank,
        macs=option.macs,
        macs_before=option.macs_before,
        sites=option.sites,
        absorbs_shortcut=option.absorbs_shortcut,
        border=option.border,
    )


def show_map(document: MapDocument) -> Group:
    """The tables that are not empty, and one line, for a terminal."""
    tables = [_spans("segments", "segment", document.segments)]
    if document.runs:
        tables.append(_spans("spans across two segments", "from..to", document.runs))
    refusals = Table(title="sites that nothing here can remove", title_justify="left")
    refusals.add_column("site")
    refusals.add_column("reason")
    for refusal in document.refusals:
        refusals.add_row(refusal.site, refusal.reason)
    counts = f"{len(document.sites)} sites, depth {document.depth}"
    summary = f"{counts}, {document.macs:,} MACs a sample (of text: a token)"
    return Group(*tables, refusals, summary)


def _spans(title: str, of: str, rows: Sequence[SegmentRow | RunRow]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in (of, "operators", "sites", "options (MACs after / before)"):
        table.add_column(column)
    for row in rows:
        shortcut = row.shortcut if isinstance(row, SegmentRow) else None
        table.add_row(
            row.id,
            " ".join("x".join(map(str, o.kernel)) or "matrix" for o in row.operators)
            + (f" +{shortcut}" if shortcut else ""),
            "\n".join(row.sites),
            "\n".join(
                f"{o.id.removeprefix(row.id + '/')}: {o.macs / max(o.macs_before, 1):.2f}x"
                for o in row.options
            ),
        )
    return table
