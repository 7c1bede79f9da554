"""Fold per-channel constants into the operators beside them.

after:    a * (W x + b) + c  =  (a W) x + (a b + c)              always exact
before:   W (a x + c) + b    =  (W a) x + (W c + b)              exact where W pads nothing
LayerNorm's own scale and shift are such an affine in front of the matrices that read it.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pipeline.collapse.algebra import Linear, scale_input, scale_output
from pipeline.collapse.drawing import draw, final_dtype, pending, put
from pipeline.collapse.reading import unit_of
from pipeline.collapse.units import Unit
from pipeline.graphs.building import remove_dead
from pipeline.graphs.constants import constant, integer, number, read_inside, sole_consumer
from pipeline.graphs.operators import glue_kind, per_channel_operand

Affine = tuple[np.ndarray, np.ndarray | None]


def affine_of(node: ir.Node, value: ir.Value, axis: int) -> Affine | None:
    """(scale, shift) in float64 of a node that scales and shifts `value` per channel."""
    if glue_kind(node, value, axis) != "affine":
        return None
    if node.op_type == "BatchNormalization":
        arrays = [constant(v) for v in node.inputs[1:5]]
        if any(array is None for array in arrays):
            return None
        gamma, beta, mean, variance = (np.asarray(a, dtype=np.float64) for a in arrays)
        scale = gamma / np.sqrt(variance + number(node, "epsilon", 1e-5))
        return scale, beta - mean * scale
    operand = np.asarray(
        constant(per_channel_operand(node, value, axis)), dtype=np.float64
    ).reshape(-1)
    one = np.ones(1)
    if node.op_type == "Mul":
        return operand, None
    if node.op_type == "Div":
        return (1.0 / operand, None) if operand.all() else None
    if node.op_type == "Add":
        return one, operand
    return (one, -operand) if node.inputs[0] is value else (-one, operand)


def fold_into_operator(model: ir.Model, node: ir.Node) -> bool:
    unit = unit_of(node)
    if unit is None or not unit.weighted:
        return False
    return _fold_after(model, unit) or _fold_before(model, unit)


def _fold_after(model: ir.Model, unit: Unit) -> bool:
    following = sole_consumer(unit.output)
    affine = affine_of(following, unit.output, unit.axis) if following is not None else None
    if following is None or affine is None:
        return False
    scale = np.broadcast_to(affine[0], (unit.geometry.out_channels,))
    rewrite(model, unit, scale_output(unit.linear(), scale, affine[1]), unit.input, following)
    return True


def _fold_before(model: ir.Model, unit: Unit) -> bool:
    """Only what stands behind no operator of its own: a norm on a sum, an affine on the input."""
    node = unit.input.producer()
    if node is None or sole_consumer(unit.input) is not unit.node:
        return False
    for value in node.inputs[:2]:
        affine = affine_of(node, value, unit.axis) if value is not None else None
        if value is None or affine is None or not _same_channels(value, unit):
            continue
        if affine[1] is not None and unit.geometry.padded:
            return False
        linear = scale_input(unit.linear(), affine[0], affine[1])
        rewrite(model, unit, linear, value, unit.closing)
        return True
    return False


def _same_channels(value: ir.Value, unit: Unit) -> bool:
    if value.shape is None or len(value.shape) < 2:
        return False
    return value.shape[1 if unit.geometry.rank else -1] == unit.geometry.in_channels


def rewrite(model: ir.Model, unit: Unit, linear: Linear, read: ir.Value, last: ir.Node) -> None:
    end = last.outputs[0]
    rank = len(unit.input.shape) if unit.input.shape is not None else 0
    nodes = draw(
        model,
        read,
        linear,
        rank=rank if unit.node.op_type != "MatMul" else 0,
        name=unit.name,
        dtype=unit.dtype,
        sources=unit.sources,
    )
    put(model, nodes, end, scope=unit.node)
    remove_dead(model.graph, last)


def fold_norm(model: ir.Model, node: ir.Node) -> bool:
    """LayerNorm's scale and shift go into the matrices, where matrices alone read it."""
    if node.op_type != "LayerNormalization" or len(node.outputs) > 1:
        return False
    output = node.outputs[0]
    if read_inside(output):
        return False
    arrays = [constant(value) for value in node.inputs[1:3]]
    if output.is_graph_output() or output.shape is None or any(a is None for a in arrays):
        return False
    if integer(node, "axis", -1) not in {-1, len(output.shape) - 1}:
        return False
    scale = np.asarray(arrays[0], dtype=np.float64)
    shift = np.asarray(arrays[1], dtype=np.float64) if len(arrays) > 1 else None
    if (scale == 1.0).all() and (shift is None or not shift.any()):
        return False
    units = [unit_of(reader) for reader in output.consumers()]
    matrices = [u for u in units if u is not None and u.input is output and not u.geometry.rank]
    if not units or len(matrices) != len(units):
        return False
    for unit in matrices:
        linear = scale_input(unit.linear(), scale, shift)
        rewrite(model, unit, linear, output, unit.closing)
    held = node.inputs[1]
    assert held is not None
    ones = pending(model, f"{node.name}/scale", np.ones_like(scale), final_dtype(held))
    node.replace_input_with(1, ones)
    if len(node.inputs) > 2:
        node.resize_inputs(2)
    return True
