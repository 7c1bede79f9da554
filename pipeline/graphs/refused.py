"""Why an activation cannot be removed to any effect: the operators and the fact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.graphs.chains import Terrain, Walk
from pipeline.graphs.segments import Segment
from pipeline.graphs.sites import Site
from pipeline.graphs.spans import span_geometry


@dataclass(frozen=True, slots=True)
class Refusal:
    """A site that no option removes, and the fact that forbids it."""

    site: str
    reason: str


def refused(
    sites: tuple[Site, ...],
    segments: tuple[Segment, ...],
    barred: Mapping[str, str],
    walks: Mapping[str, Walk],
    terrain: Terrain,
    max_kernel: int,
) -> tuple[Refusal, ...]:
    removable = {name for s in segments for option in s.options for name in option.sites}
    inside = {name: segment for segment in segments for name in segment.sites}
    passed = {w.site.id: w for w in walks.values() if w.site}
    refusals = []
    for site in sites:
        if site.id in removable:
            continue
        if site.id in inside:
            reason = _span_reason(site.id, inside[site.id], max_kernel)
        elif site.id in barred:
            reason = barred[site.id]
        elif site.id in passed:
            reason = passed[site.id].reason
        else:
            reason = _upstream_reason(site, terrain)
        refusals.append(Refusal(site.id, reason))
    return tuple(refusals)


def _span_reason(site: str, segment: Segment, max_kernel: int) -> str:
    gap = segment.gaps.index(site)
    pair = segment.operators[gap : gap + 2]
    merged = span_geometry(pair, segment.glue[gap : gap + 1])
    if isinstance(merged, str):
        return merged
    names = f"{pair[0].node} and {pair[1].node}"
    return f"{names} would make a {merged} kernel, more than {max_kernel}, and no refit is centred"


def _upstream_reason(site: Site, terrain: Terrain) -> str:
    producer = next(n for n in terrain.nodes.values() if n.name == site.nodes[0])
    value = next(v for v in producer.inputs if v is not None and v.name == site.input)
    source = value.producer()
    if source is None:
        return f"its input {site.input} is an input of the graph"
    if source in terrain.operators:
        readers = ", ".join(sorted({str(use.node.name) for use in value.uses()}))
        return f"its input {site.input} feeds {readers}"
    return f"its input comes from {source.op_type} {source.name}, not from one linear operator"
