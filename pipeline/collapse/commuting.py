"""Move what is linear per channel ahead of what only rearranges or averages positions.

mean(W x + b) = W mean(x) + b         for a pointwise W: the mean over space goes first
layout(W x) scaled per channel  =  layout((scaled W) x), and a pointwise operator behind a
layout node acts ahead of it, where it is adjacent to the operator it can merge with
"""

from __future__ import annotations

import onnx_ir as ir

from pipeline.collapse.algebra import Linear, scale_output
from pipeline.collapse.drawing import draw, put
from pipeline.collapse.folding import affine_of, rewrite
from pipeline.collapse.layout import Passage, passage, rebuilt
from pipeline.collapse.reading import unit_of
from pipeline.collapse.units import Unit
from pipeline.graphs.building import remove_dead
from pipeline.graphs.constants import ELEMENTS, sole_consumer
from pipeline.graphs.geometry import Geometry, matrix
from pipeline.graphs.operators import glue_kind

MOVED = "/moved-mean"


def hoist_mean(model: ir.Model, node: ir.Node) -> bool:
    """Pointwise conv, mean over space, flatten, matrix: the mean and the flatten go first.

    One conv and no further: the next one in front may be worth more inside its own block.
    """
    unit = unit_of(node)
    if unit is None or unit.node.op_type != "Conv" or not unit.geometry.pointwise:
        return False
    between = []
    value = unit.output
    while (reader := sole_consumer(value)) is not None:
        if glue_kind(reader, value) not in {"pool", "flatten"}:
            break
        between.append(reader)
        value = reader.outputs[0]
    if reader is None or not between or reader.inputs[0] is not value:
        return False
    if reader.op_type not in {"Gemm", "MatMul"} or unit_of(reader) is None:
        return False
    if value.shape is None or len(value.shape) != 2 or unit.geometry.groups != 1:
        return False
    linear = unit.linear()
    out, within = linear.weight.shape[:2]
    flat = Linear(matrix(within, out), linear.weight.reshape(out, within), linear.bias)
    nodes = []
    if any((reader.name or "").endswith(MOVED) for reader in between):
        return False
    if any(glue_kind(reader, reader.inputs[0]) == "pool" for reader in between):
        nodes += [ir.node("GlobalAveragePool", [unit.input], name=f"{unit.name}{MOVED}")]
        space = [1] * unit.geometry.rank
        nodes[0].outputs[0].shape = ir.Shape([value.shape[0], within, *space])
    read = nodes[0].outputs[0] if nodes else unit.input
    nodes += [ir.node("Flatten", [read], name=f"{unit.name}/flatten")]
    for made in nodes:
        made.outputs[0].type = unit.input.type
    nodes[-1].outputs[0].shape = ir.Shape([value.shape[0], within])
    nodes += draw(
        model,
        nodes[-1].outputs[0],
        flat,
        rank=2,
        name=unit.name,
        dtype=unit.dtype,
        sources=unit.sources,
    )
    put(model, nodes, value, scope=unit.node)
    remove_dead(model.graph, between[-1])
    return True


def move_before_layout(model: ir.Model, node: ir.Node) -> bool:
    """What scales or mixes channels behind Transpose or Reshape acts ahead of them."""
    unit = unit_of(node)
    if unit is None or not unit.weighted:
        return False
    found = passage(unit.output, unit.axis)
    reader = sole_consumer(found.end) if found else None
    if found is None or reader is None:
        return False
    affine = affine_of(reader, found.end, found.axis)
    if affine is not None:
        rewrite(model, unit, scale_output(unit.linear(), *affine), unit.input, unit.closing)
        _pass_over(model, reader, found)
        return True
    following = unit_of(reader)
    if following is None or not following.weighted or following.node is not reader:
        return False
    return _swap(model, unit, found, following)


def _pass_over(model: ir.Model, reader: ir.Node, found: Passage) -> None:
    """Drop the affine; every value in between is another one now, so it gets another name."""
    first = found.nodes[0].inputs[0]
    assert first is not None
    result = reader.outputs[0]
    name, result.name = result.name, f"{result.name}/replaced"
    for value in (first, *(node.outputs[0] for node in found.nodes)):
        value.name = f"{value.name}/scaled"
    result.replace_all_uses_with(found.end, replace_graph_outputs=True)
    remove_dead(model.graph, reader)
    found.end.name = name


def _swap(model: ir.Model, unit: Unit, found: Passage, following: Unit) -> bool:
    rank = len(found.end.shape) if found.end.shape is not None else 0
    geometry = following.geometry
    pointwise = not geometry.rank or (geometry.pointwise and geometry.groups == 1)
    if not rank or not pointwise or following.axis % rank != found.axis:
        return False
    shape = unit.output.shape
    if following.input is not found.end or shape is None:
        return False
    linear = following.linear()
    out, within = linear.weight.shape[:2]
    ones = (1,) * unit.geometry.rank
    there = matrix(within, out)
    if unit.geometry.rank:
        there = Geometry(ones, ones, ones, (0,) * (2 * len(ones)), 1, within, out)
    moved = Linear(there, linear.weight.reshape(out, within, *ones), linear.bias)
    nodes = draw(
        model,
        unit.output,
        moved,
        rank=2 if unit.node.op_type == "Gemm" else 0,
        name=following.name,
        dtype=following.dtype,
        sources=following.sources,
    )
    sizes = list(shape)
    sizes[unit.axis] = out
    for made in nodes:
        made.outputs[0].type, made.outputs[0].shape = unit.output.type, ir.Shape(sizes)
        made.outputs[0].meta[ELEMENTS] = unit.positions * out
    behind = rebuilt(model, found, nodes[-1].outputs[0], out)
    if behind is None:
        return False
    put(model, nodes + behind, following.output, scope=following.node)
    remove_dead(model.graph, following.closing)
    return True
