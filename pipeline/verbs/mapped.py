"""The document of `shoal map`: what can be shortened, at what cost, and what cannot."""

from __future__ import annotations

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
        refusals=tuple(RefusalRow(r.site, r.reason) for r in found.refusals),
        macs=found.macs,
        depth=found.depth,
    )


def _segment(segment: Segment) -> SegmentRow:
    operators = tuple(
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
    return SegmentRow(
        id=segment.id,
        sites=segment.sites,
        operators=operators,
        shortcut=segment.shortcut.kind if segment.shortcut else None,
        options=tuple(_option(option) for option in segment.options),
        macs_before=segment.macs,
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
    """Two tables and one line, for a terminal."""
    segments = Table(title="segments", title_justify="left")
    for column in ("segment", "operators", "sites", "options (MACs after / before)"):
        segments.add_column(column)
    for segment in document.segments:
        segments.add_row(
            segment.id,
            " ".join("x".join(map(str, o.kernel)) or "matrix" for o in segment.operators)
            + (f" +{segment.shortcut}" if segment.shortcut else ""),
            "\n".join(segment.sites),
            "\n".join(
                f"{o.id.removeprefix(segment.id + '/')}: {o.macs / max(o.macs_before, 1):.2f}x"
                for o in segment.options
            ),
        )
    refusals = Table(title="sites that nothing here can remove", title_justify="left")
    refusals.add_column("site")
    refusals.add_column("reason")
    for refusal in document.refusals:
        refusals.add_row(refusal.site, refusal.reason)
    counts = f"{len(document.sites)} sites, depth {document.depth}"
    summary = f"{counts}, {document.macs:,} MACs a sample (of text: a token)"
    return Group(segments, refusals, summary)
