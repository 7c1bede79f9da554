"""`shoal bench --layers`: where the time goes, operator by operator and segment by segment.

Runtimes fuse operators and rename them (`relu_3_nchwc`, `conv2d_1/WithoutBiases`), but the name
still begins with that of a node or of a value it computes. The longest such beginning decides;
what a runtime added of its own (reorders, casts) belongs to no node and no segment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
from rich.table import Table

from pipeline.mapping import load_model, map_model
from profiles.inspection import LayerTime, layers_of
from profiles.target import Target

FUSED = frozenset(
    {"Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSwish", "Add", "BatchNormalization"}
)
JOINTS = ("_", "/", " ", ":", ".")


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One executed operator: its time, the ONNX node it comes from, that node's segment."""

    name: str
    kind: str
    time_ms: float
    share: float
    node: str | None
    segment: str | None


@dataclass(frozen=True, slots=True)
class SegmentTime:
    """The operators of one segment together; None is everything outside of segments."""

    segment: str | None
    time_ms: float
    share: float
    layers: int


@dataclass(frozen=True, slots=True)
class Layers:
    """Profiling slows a network down: shares are to be read, sums are not its latency."""

    layers: tuple[LayerRow, ...]
    segments: tuple[SegmentTime, ...]


def profile_layers(
    model: Path,
    target: Target,
    *,
    seed: int = 0,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Layers:
    """Profile the file on the target and map the times back to the graph."""
    times = layers_of(target, model, seed=seed, shapes=shapes)
    graph = load_model(model)
    segment_of = {
        node: segment.id for segment in map_model(graph).segments for node in segment.nodes
    }
    for node in graph.graph:  # fused into the operator before it, as Conv + Relu + Add
        before = node.inputs[0].producer() if node.inputs and node.inputs[0] else None
        if node.op_type in FUSED and before is not None and before.name in segment_of:
            segment_of.setdefault(node.name or "", segment_of[before.name])
    return attribute(times, names_of(graph), segment_of)


def names_of(model: ir.Model) -> dict[str, str]:
    """Every name that a runtime may keep of a node, to that node's name."""
    names: dict[str, str] = {}
    for node in model.graph:
        for name in (node.name, *(output.name for output in node.outputs)):
            if name:
                names[name] = node.name or name
    return names


def attribute(
    times: Sequence[LayerTime], names: Mapping[str, str], segment_of: Mapping[str, str]
) -> Layers:
    """Times with the node and the segment that each belongs to."""
    total = sum(one.time_ms for one in times) or 1.0
    rows = []
    for one in times:
        node = _node(one.name, names)
        segment = segment_of.get(node) if node else None
        rows.append(LayerRow(one.name, one.kind, one.time_ms, one.time_ms / total, node, segment))
    order = dict.fromkeys(row.segment for row in rows)
    segments = []
    for segment in order:
        members = [row.time_ms for row in rows if row.segment == segment]
        segments.append(SegmentTime(segment, sum(members), sum(members) / total, len(members)))
    return Layers(tuple(rows), tuple(segments))


def _node(name: str, names: Mapping[str, str]) -> str | None:
    """The node of the longest name that this one begins with."""
    begins = [
        known
        for known in names
        if name == known or name.startswith(tuple(known + j for j in JOINTS))
    ]
    return names[max(begins, key=len)] if begins else None


def show_layers(layers: Layers) -> Table:
    table = Table("operator", "kind", "ms", "share", "segment", title="profiled operators")
    for row in layers.layers:
        table.add_row(row.name, row.kind, f"{row.time_ms:.4f}", f"{row.share:.1%}", row.segment)
    return table
