"""What an option replaces and what it puts there, each cut out as a network of its own.

The cut is where the dense network and the built one differ, whatever kind of option made the
difference, and takes in the activation behind it: runtimes fuse that into the operator in front.
Weights do not matter to time, so a piece is named by its geometry, the hash of its operators,
attributes, shapes and wiring: equal pieces of any network are one entry of a latency table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from onnx_ir.convenience import extract

from pipeline.graphs.building import build
from pipeline.graphs.constants import constant, dimensions, size_of
from pipeline.mapping import Map, Option

BY_VALUE = 16  # constants of up to so many numbers are bounds, axes and shapes rather than weights


@dataclass(frozen=True, slots=True)
class Piece:
    """`geometry` is its name in a table, `what` for people."""

    geometry: str
    what: str
    model: ir.Model

    @property
    def nbytes(self) -> int:
        return weight_bytes(self.model)


@dataclass(frozen=True, slots=True)
class Cut:
    """`after` is None where the option puts nothing in its place."""

    before: Piece
    after: Piece | None


def cut_out(dense: ir.Model, map_: Map, option: Option, *, seed: int) -> Cut | str:
    """The two pieces of an option, or why it cannot be measured apart from its network."""
    built = build(dense, map_, [option], seed=seed)
    old, new = _names(dense), _names(built)
    removed, added = old - new, new - old
    end = _outside(dense, removed)[1]
    for site in map_.sites:
        if end == [site.input] and removed.isdisjoint(site.nodes):
            behind = set(site.nodes)
            before = _cut(dense, removed | behind)
            after = _cut(built, added | behind) if added else _cut(built, behind)
            break
    else:
        before = _cut(dense, removed)
        after = _cut(built, added) if added else None
    if isinstance(before, str):
        return before
    return after if isinstance(after, str) else Cut(before, after)


def geometry_of(model: ir.Model) -> str:
    """Equal for networks that differ in nothing but weights and names."""
    return hashlib.sha256(json.dumps(_structure(model), sort_keys=True).encode()).hexdigest()


def weight_bytes(model: ir.Model) -> int:
    values = model.graph.initializers.values()
    return sum(value.const_value.nbytes for value in values if value.const_value is not None)


def _names(model: ir.Model) -> set[str]:
    return {node.name or "" for node in model.graph}


def _outside(model: ir.Model, names: set[str]) -> tuple[list[str], list[str]]:
    """What the nodes of these names read from outside, and what is read of them outside."""
    nodes = [node for node in model.graph if node.name in names]
    made = {id(value) for node in nodes for value in node.outputs}
    reads: dict[str, None] = {}
    for node in nodes:
        for value in node.inputs:
            if value is not None and id(value) not in made and constant(value) is None:
                reads[value.name or ""] = None
    given = [
        value.name or ""
        for node in nodes
        for value in node.outputs
        if value.is_graph_output() or any(use.node.name not in names for use in value.uses())
    ]
    return list(reads), given


def _cut(model: ir.Model, names: set[str]) -> Piece | str:
    reads, given = _outside(model, names)
    graph = extract(model.graph, reads, given)
    for value in graph.inputs:
        sizes = dimensions(value)
        if sizes is None or not all(isinstance(size, int) for size in sizes[1:]):
            return f"the shape of {value.name} is not known before it runs"
    opsets = dict(model.opset_imports)
    graph.opset_imports.update(opsets)
    piece = ir.Model(graph, ir_version=model.ir_version)
    return Piece(geometry_of(piece), _describe(piece), piece)


def _structure(model: ir.Model) -> dict[str, Any]:
    names: dict[int, str] = {}
    for index, value in enumerate(model.graph.inputs):
        names[id(value)] = f"input{index}"
    nodes = []
    for number, node in enumerate(model.graph):
        reads = [_reference(value, names) for value in node.inputs]
        for index, value in enumerate(node.outputs):
            names[id(value)] = f"{number}:{index}"
        attributes = {name: str(one.value) for name, one in node.attributes.items()}
        nodes.append([node.domain, node.op_type, attributes, reads, len(node.outputs)])
    return {
        "opset": model.opset_imports.get("", 0),
        "inputs": [[_shape(value), str(value.dtype)] for value in model.graph.inputs],
        "nodes": nodes,
        "outputs": [names[id(value)] for value in model.graph.outputs],
    }


def _reference(value: ir.Value | None, names: dict[int, str]) -> Any:
    if value is None:
        return None
    array = value.const_value
    if array is None:
        return names.get(id(value), value.name)
    small = array.size <= BY_VALUE and not array.dtype.is_floating_point()
    bounds = array.size == 1
    return [str(array.dtype), list(array.shape), array.numpy().tolist() if small or bounds else 0]


def _shape(value: ir.Value) -> Sequence[int | str] | None:
    """Whatever symbols there are is N: 64 windows of each sample are `64N`."""
    if value.shape is None:
        return None
    sizes = [(axis, size_of(axis)) for axis in value.shape]
    return [
        size if isinstance(axis, int) else "N" if size == 1 else f"{size}N" for axis, size in sizes
    ]


def _describe(model: ir.Model) -> str:
    """`1x64x56x56: Conv 3x3 64-64, Relu, Conv 3x3 64-64, Add`."""
    read = model.graph.inputs[0]
    sizes = "x".join(str(size) for size in _shape(read) or ())
    return f"{sizes}: {', '.join(_operator(node) for node in model.graph)}"


def _operator(node: ir.Node) -> str:
    weight = node.inputs[1].const_value if len(node.inputs) > 1 and node.inputs[1] else None
    if weight is None or node.op_type not in {"Conv", "Gemm", "MatMul"}:
        return node.op_type
    shape = [str(size) for size in weight.shape]
    if node.op_type != "Conv":
        return f"{node.op_type} {'x'.join(shape)}"
    groups = node.attributes.get_int("group", 1)
    stride = max(node.attributes.get_ints("strides", [1]))
    grouped = f" in {groups} groups" if groups > 1 else ""
    strided = f" stride {stride}" if stride > 1 else ""
    return f"Conv {'x'.join(shape[2:])}{strided}{grouped} to {shape[0]}"
