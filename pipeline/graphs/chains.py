"""From one linear operator to the next: what stands between, and why a walk ends.

A walk follows values that one node alone reads. It passes at most one activation (a site that a
plan may linearise) and any glue, and ends at the next operator or at a barrier with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from pipeline.graphs.constants import read_inside
from pipeline.graphs.operators import Operator, glue_kind
from pipeline.graphs.sites import Site


@dataclass(frozen=True, slots=True)
class Walk:
    """From an operator's output: `tail` up to the site, then on to `reached` or the barrier."""

    nodes: tuple[ir.Node, ...]
    glue: tuple[str, ...]
    site: Site | None
    tail: tuple[ir.Node, ...]
    tail_end: ir.Value
    end: ir.Value
    reached: Operator | None
    reason: str


@dataclass(frozen=True, slots=True)
class Terrain:
    """The graph with its operators by node and its sites by input value name."""

    nodes: Mapping[str, ir.Node]
    operators: Mapping[ir.Node, Operator]
    sites: Mapping[str, Site]


def walk(start: ir.Value, terrain: Terrain) -> Walk:
    value, site = start, None
    nodes: list[ir.Node] = []
    glue: list[str] = []
    tail: list[ir.Node] = []
    tail_end = start
    reached, reason = None, ""
    while True:
        here = terrain.sites.get(value.name or "")
        if here and only_feeds(value, here):
            if site:
                reason = f"{here.kind} {here.node} follows {site.kind} {site.node} directly"
                break
            site = here
            nodes += [terrain.nodes[name] for name in here.nodes]
            value = nodes[-1].outputs[0]
            continue
        reason = barrier(value, terrain)
        if reason:
            break
        node = next(iter(value.uses())).node
        operator = terrain.operators.get(node)
        if operator and node.inputs[0] is value:
            reached = operator
            break
        kind = glue_kind(node, value)
        if kind is None:
            reason = f"{node.op_type} {node.name} follows, which is not linear per channel"
            break
        nodes.append(node)
        glue.append(kind)
        value = node.outputs[0]
        if site is None and kind in {"identity", "affine"} and len(tail) == len(nodes) - 1:
            tail.append(node)
            tail_end = value
    return Walk(tuple(nodes), tuple(glue), site, tuple(tail), tail_end, value, reached, reason)


def barrier(value: ir.Value, terrain: Terrain) -> str:
    """Why nothing can be merged across the value, "" if it has one reader."""
    uses = value.uses()
    if value.is_graph_output():
        return f"{value.name} is an output of the graph"
    if not uses:
        return f"nothing reads {value.name}"
    if read_inside(value):
        return f"{value.name} is read inside the body of another node"
    if len(uses) > 1:
        readers = ", ".join(sorted({str(use.node.name) for use in uses}))
        return f"{value.name} feeds {readers}"
    node = next(iter(uses)).node
    if node.op_type in {"Add", "Sum"} and node not in terrain.operators:
        variable = [v for v in node.inputs if v is not None and v.const_value is None]
        if len(variable) > 1:
            return f"its output is summed with another tensor in {node.name}"
    return ""


def only_feeds(value: ir.Value, site: Site) -> bool:
    readers = {use.node.name for use in value.uses()}
    return not value.is_graph_output() and readers <= set(site.nodes)
