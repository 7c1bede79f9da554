"""Put a merged operator into the graph in place of its items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from pipeline.collapse.algebra import (
    Linear,
    add_shortcut,
    merge,
    merge_all,
    split_ones,
    with_ones,
)
from pipeline.collapse.cutting import Merge
from pipeline.collapse.drawing import draw, pending, put
from pipeline.collapse.fusing import input_size
from pipeline.collapse.structure import Block, Item
from pipeline.collapse.units import joined
from pipeline.graphs.building import remove_dead
from pipeline.graphs.geometry import shortcut_tap


def apply(model: ir.Model, merged: Merge) -> ir.Value:
    """Compose in float64 and replace; returns the value the new operator computes."""
    form, units = merged.form, [unit for item in merged.items for unit in item.units]
    linear, ones = assemble(merged.items)
    source = form.first.node.inputs[0]
    end = merged.items[-1].output
    assert source is not None
    dtype = next((unit.dtype for unit in units if unit.weighted), form.first.dtype)
    name = f"{form.first.name}..{form.last.name}" if len(units) > 1 else form.first.name
    nodes: list[ir.Node] = []
    constant_map = None
    if ones and form.fixed_size:
        linear, constant_map = split_ones(linear, input_size(form))
    elif ones:
        nodes += _append_ones(model, source, linear.geometry.rank, name, dtype)
        source = nodes[-1].outputs[0]
    rank = len(end.shape) if end.shape is not None else 2
    if not linear.geometry.rank and form.first.node.op_type == "MatMul":
        rank = 0
    nodes += draw(model, source, linear, rank=rank, name=name, dtype=dtype, sources=joined(units))
    if constant_map is not None:
        held = pending(model, f"{name}/map", constant_map[None], dtype)
        nodes.append(ir.node("Add", [nodes[-1].outputs[0], held], name=f"{name}/border"))
    closing = end.producer()
    assert closing is not None
    result = put(model, nodes, end, scope=form.last.node)
    remove_dead(model.graph, closing)
    return result


def assemble(items: Sequence[Item]) -> tuple[Linear, bool]:
    """The composed operator, and whether its last input channel is one of ones."""
    parts = [_assemble_item(item) for item in items]
    if not parts[0][0].geometry.rank:
        return merge_all([linear for linear, _ in parts]), False
    linear, ones = parts[0]
    for following, _ in parts[1:]:
        single = max(linear.geometry.kernel) == 1 and not linear.geometry.padded
        if following.geometry.padded and single and not ones and linear.bias is not None:
            linear, ones = with_ones(linear), True
        linear = merge(linear, following)
    return linear, ones


def _assemble_item(item: Item) -> tuple[Linear, bool]:
    if not isinstance(item, Block):
        return item.unit.linear(), False
    branch, ones = assemble(item.branch)
    shortcut = assemble(item.shortcut)[0] if item.shortcut else None
    tap = shortcut_tap(branch.geometry, shortcut.geometry if shortcut else None)
    assert not isinstance(tap, str)  # `fuse` allowed it
    return add_shortcut(branch, shortcut, tap), ones


def _append_ones(
    model: ir.Model, source: ir.Value, rank: int, name: str, dtype: np.dtype
) -> list[ir.Node]:
    """One more channel, all ones: a Pad of the channel axis with the value 1."""
    pads = np.zeros((2, rank + 2), dtype=np.int64)
    pads[1, 1] = 1
    where = ir.val(f"{name}/pads", const_value=ir.tensor(pads.ravel(), name=f"{name}/pads"))
    model.graph.register_initializer(where)
    one = pending(model, f"{name}/one", np.ones(()), dtype)
    node = ir.node("Pad", [source, where, one], {"mode": "constant"}, name=f"{name}/ones")
    node.outputs[0].type = source.type
    if source.shape is not None:
        sizes = list(source.shape)
        node.outputs[0].shape = ir.Shape([sizes[0], sizes[1] + 1, *sizes[2:]])
    return [node]
