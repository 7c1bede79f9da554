"""Runs: two blocks in a row as one span, through the addition of a shortcut between them.

A block that adds its input, or a projection of it, to its branch is one linear operator once its
activations are gone; with the activation between two of them gone as well, so is

    (S2 + G) (S1 + F)        F, G the branches, S the shortcuts, 0 where a block has none

and one small kernel can be fitted to both. It is fitted, never merged: the exact kernel is that of
both branches in a row, and to move the padding of G before F its shortcut would have to be cropped
alike, which no edit of the traced model does.

A block is a whole segment where that has a shortcut. Of one without, it is what lies behind its
last, or before its first, gap without an activation: there linear bottlenecks end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import onnx_ir as ir

from pipeline.graphs.chains import Terrain, only_feeds
from pipeline.graphs.constants import constant
from pipeline.graphs.geometry import shortcut_tap
from pipeline.graphs.options import refits_of_run
from pipeline.graphs.segments import Segment, common_path, numbered_calls
from pipeline.graphs.sites import Site
from pipeline.graphs.spans import span_geometry


def runs_of(
    segments: Sequence[Segment], terrain: Terrain, max_kernel: int
) -> tuple[tuple[Segment, ...], dict[str, str]]:
    """Every two neighbours as a segment of its own; by site between, what forbids the others."""
    found = list(_neighbours(segments, terrain))
    barred = {site.id: said for site, said in found if site and isinstance(said, str)}
    linear = [(site, run) for site, run in found if isinstance(run, Segment)]
    taken = [segment.id for segment in segments]
    ids = numbered_calls([*taken, *(run.id for _, run in linear)])[len(taken) :]
    runs = []
    for (site, run), id_ in zip(linear, ids, strict=True):
        named = replace(run, id=id_)
        options = refits_of_run(named, max_kernel)
        if options:
            runs.append(replace(named, options=options))
        elif site:
            barred[site.id] = (
                "no smaller kernel about the same centre, as wide as its stride, takes fewer MACs "
                f"than {id_}"
            )
    return tuple(runs), barred


def _neighbours(
    segments: Sequence[Segment], terrain: Terrain
) -> Iterator[tuple[Site | None, Segment | str]]:
    values = {v.name or "": v for node in terrain.nodes.values() for v in node.outputs}
    behind: dict[str, list[Segment]] = {}
    for segment in segments:
        behind.setdefault(segment.input, []).append(segment)
    for segment in segments:
        end = values[segment.output]
        site = terrain.sites.get(segment.output)
        site = site if site and only_feeds(end, site) else None
        for following in behind.get(site.output if site else segment.output, []):
            yield site, _run(segment, site, following, values)


def _run(
    before: Segment, site: Site | None, after: Segment, values: dict[str, ir.Value]
) -> Segment | str:
    first, second = _last_block(before), _first_block(after)
    for block in (first, second):
        reason = _no_operator(block)
        if reason:
            return reason
    operators = (*first.operators, *second.operators)
    output = second.output if second.shortcut else operators[-1].output
    inside = _inside(values[output], operators[0].input)
    if isinstance(inside, str):
        return inside
    gap = site.id if site else None
    return Segment(
        id=f"{first.id}..{second.id}",
        input=operators[0].input,
        output=output,
        nodes=tuple(node.name or "" for node in inside),
        sites=(*first.sites, *([gap] if gap else []), *second.sites),
        operators=operators,
        gaps=(*first.gaps, gap, *second.gaps),
        glue=(*first.glue, (), *second.glue),
        shortcut=second.shortcut,
        macs=first.macs + second.macs,
        through=(before.id, after.id),
        added=tuple(s for s in (first.shortcut, second.shortcut) if s),
    )


def _last_block(segment: Segment) -> Segment:
    linear = [i for i, site in enumerate(segment.gaps) if site is None]
    start = linear[-1] + 1 if linear and not segment.shortcut else 0
    return _part(segment, start, len(segment.operators))


def _first_block(segment: Segment) -> Segment:
    linear = [i for i, site in enumerate(segment.gaps) if site is None]
    stop = linear[0] + 1 if linear and not segment.shortcut else len(segment.operators)
    return _part(segment, 0, stop)


def _part(segment: Segment, start: int, stop: int) -> Segment:
    operators = segment.operators[start:stop]
    if len(operators) == len(segment.operators):
        return segment
    gaps = segment.gaps[start : stop - 1]
    return replace(
        segment,
        id=common_path([operator.scope for operator in operators]) or operators[0].scope,
        sites=tuple(site for site in gaps if site),
        operators=operators,
        gaps=gaps,
        glue=segment.glue[start : stop - 1],
        macs=sum(operator.macs for operator in operators),
    )


def _no_operator(block: Segment) -> str:
    """Why the block would not be one convolution without its activations; "" if it would."""
    merged = span_geometry(block.operators, block.glue)
    if isinstance(merged, str):
        return merged
    if not merged.rank:
        return f"{block.operators[-1].node} is a matrix, which has no kernel to be fitted"
    if block.shortcut:
        projection = block.shortcut.operator
        tap = shortcut_tap(merged, projection.geometry if projection else None)
        return tap if isinstance(tap, str) else ""
    return ""


def _inside(end: ir.Value, start: str) -> list[ir.Node] | str:
    """All nodes from the value `start` to `end`, or who else reads one of their values."""
    nodes: dict[ir.Node, None] = {}
    waiting = [end]
    while waiting:
        value = waiting.pop()
        producer = value.producer()
        if producer is None:
            return f"{end.name} depends on {value.name} as well"
        if producer not in nodes:
            nodes[producer] = None
            reads = [v for v in producer.inputs if v is not None and constant(v) is None]
            waiting += [v for v in reads if v.name != start]
    for value in (v for node in nodes for v in node.outputs if v is not end):
        if value.is_graph_output():
            return f"{value.name} is an output of the graph"
        others = sorted({str(use.node.name) for use in value.uses() if use.node not in nodes})
        if others:
            return f"{value.name} feeds {', '.join(others)} besides the block behind it"
    return list(nodes)
