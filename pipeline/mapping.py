"""ONNX graph -> sites, segments, options: which activations can shorten the network.

A segment is a maximal chain operator, site or glue, operator ... between two barriers: it
goes on across the boundaries of modules and blocks, as long as nothing between is nonlinear. What
may stand in place of a part of it are its options. Where the addition of a shortcut ends one and
the next begins, a run reaches through it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import onnx_ir as ir

from pipeline.graphs.chains import Terrain, Walk, walk
from pipeline.graphs.constants import sole_consumer
from pipeline.graphs.loading import load_model
from pipeline.graphs.operators import Operator, read_operator
from pipeline.graphs.options import options_of
from pipeline.graphs.refused import Refusal, refused
from pipeline.graphs.runs import runs_of
from pipeline.graphs.segments import Option, Segment, Shortcut, common_path, numbered_calls
from pipeline.graphs.sites import Site, find_sites

__all__ = [
    "MAX_KERNEL",
    "Map",
    "Operator",
    "Option",
    "Refusal",
    "Segment",
    "Shortcut",
    "Site",
    "depth_of",
    "load_model",
    "map_model",
]

MAX_KERNEL = 7


@dataclass(frozen=True, slots=True)
class Map:
    """`depth`: operators with weights on the longest path; `macs`: for one sample.

    `runs` are spans of two segments, with options beside those of each.
    The length of a text is not known here, so its `macs` are for one token.
    """

    sites: tuple[Site, ...]
    segments: tuple[Segment, ...]
    runs: tuple[Segment, ...]
    refusals: tuple[Refusal, ...]
    operators: tuple[Operator, ...]
    macs: int
    depth: int

    def segment(self, id_: str) -> Segment:
        return next(s for s in (*self.segments, *self.runs) if s.id == id_)

    @property
    def options(self) -> tuple[Option, ...]:
        """In graph order: a run's behind those of the segment in which it begins."""
        starting = {run.through[0]: run.options for run in self.runs}
        return tuple(o for s in self.segments for o in (*s.options, *starting.get(s.id, ())))


def map_model(model: ir.Model, *, max_kernel: int = MAX_KERNEL) -> Map:
    """Everything that can be replaced in the model, and why the rest cannot."""
    sites = find_sites(model)
    operators = {
        node: operator for node in model.graph if (operator := read_operator(node)) is not None
    }
    terrain = Terrain(
        nodes={node.name or "": node for node in model.graph},
        operators=operators,
        sites={site.input: site for site in sites},
    )
    walks = {operator.node: walk(node.outputs[0], terrain) for node, operator in operators.items()}
    found = [_segment(chain, walks, terrain) for chain in _chains(operators.values(), walks)]
    named = _with_ids([s for s in found if len(s.operators) > 1 or s.shortcut])
    segments = tuple(replace(s, options=options_of(s, max_kernel)) for s in named)
    runs, barred = runs_of(segments, terrain, max_kernel)
    home = {site: segment.id for segment in segments for site in segment.sites}
    return Map(
        sites=tuple(replace(site, segment=home.get(site.id)) for site in sites),
        segments=segments,
        runs=runs,
        refusals=refused(sites, (*segments, *runs), barred, walks, terrain, max_kernel),
        operators=tuple(operators.values()),
        macs=sum(operator.macs for operator in operators.values()),
        depth=depth_of(model),
    )


def depth_of(model: ir.Model) -> int:
    """Operators with weights on the longest path."""
    depth: dict[ir.Value, int] = {}
    for node in model.graph:
        before = max((depth.get(v, 0) for v in node.inputs if v is not None), default=0)
        after = before + (read_operator(node) is not None or node.op_type == "ConvTranspose")
        depth.update(dict.fromkeys(node.outputs, after))
    return max((depth.get(value, 0) for value in model.graph.outputs), default=0)


def _chains(operators: Iterable[Operator], walks: dict[str, Walk]) -> list[list[Operator]]:
    reached = {w.reached.node for w in walks.values() if w.reached}
    chains = []
    for operator in operators:
        if operator.node in reached:
            continue
        chain = [operator]
        while following := walks[chain[-1].node].reached:
            chain.append(following)
        chains.append(chain)
    return chains


def _segment(chain: list[Operator], walks: dict[str, Walk], terrain: Terrain) -> Segment:
    gaps = [walks[operator.node] for operator in chain[:-1]]
    last = walks[chain[-1].node]
    chain = [
        replace(operator, output=walks[operator.node].tail_end.name or "") for operator in chain
    ]
    nodes = [operator.node for operator in chain]
    nodes += [node.name or "" for gap in gaps for node in gap.nodes]
    nodes += [node.name or "" for node in last.tail]
    shortcut = _shortcut(chain, last.tail_end, walks, terrain)
    if shortcut:
        nodes.append(shortcut.add)
        if shortcut.operator:
            nodes.append(shortcut.operator.node)
    sites = tuple(gap.site.id if gap.site else None for gap in gaps)
    projection = shortcut.operator.macs if shortcut and shortcut.operator else 0
    return Segment(
        id="",
        input=chain[0].input,
        output=shortcut.output if shortcut else last.tail_end.name or "",
        nodes=tuple(nodes),
        sites=tuple(site for site in sites if site),
        operators=tuple(chain),
        gaps=sites,
        glue=tuple(gap.glue for gap in gaps),
        shortcut=shortcut,
        macs=sum(operator.macs for operator in chain) + projection,
    )


def _shortcut(
    chain: list[Operator], end: ir.Value, walks: dict[str, Walk], terrain: Terrain
) -> Shortcut | None:
    """The Add that closes the segment onto its own input, directly or through a projection."""
    add = sole_consumer(end)
    if add is None or add.op_type != "Add":
        return None
    other = add.inputs[1] if add.inputs[0] is end else add.inputs[0]
    if other is None or other.shape != end.shape:
        return None
    if other.name == chain[0].input:
        return Shortcut("identity", add.name or "", None, add.outputs[0].name or "")
    for operator in terrain.operators.values():
        if operator.input != chain[0].input or walks[operator.node].tail_end is not other:
            continue
        single = len(other.uses()) == 1 and not other.is_graph_output()
        if single and operator is not chain[0] and all(k == 1 for k in operator.geometry.kernel):
            lesser = len(chain) > 1 or any(k > 1 for k in chain[0].geometry.kernel)
            if lesser and not operator.geometry.padded:
                projection = replace(operator, output=other.name or "")
                return Shortcut("projection", add.name or "", projection, add.outputs[0].name or "")
    return None


def _with_ids(segments: list[Segment]) -> list[Segment]:
    """The module path that the operators share, where that is the segment's alone."""
    prefixes = [common_path([o.scope for o in segment.operators]) for segment in segments]
    count = Counter(prefixes)
    names = []
    for segment, prefix in zip(segments, prefixes, strict=True):
        first, last = segment.operators[0].scope, segment.operators[-1].scope
        unique = prefix and count[prefix] == 1
        names.append(prefix if unique else f"{first}..{last}")
    numbered = numbered_calls(names)
    return [replace(s, id=name) for s, name in zip(segments, numbered, strict=True)]
