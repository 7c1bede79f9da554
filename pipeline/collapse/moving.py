"""Move the padding of a merged run to its front, in the network that is not merged.

That is the function which the merged operator computes exactly, so it is what a certificate
compares with. Sizes in between grow; the size of the result does not change.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pipeline.collapse.cutting import Merge
from pipeline.collapse.structure import Leaf
from pipeline.graphs.building import initializer


def move_padding_in(model: ir.Model, merged: Merge) -> None:
    """In place; `merged` was found in a network with the same node names."""
    head = merged.items[0]
    run = merged.items if isinstance(head, Leaf) else head.branch
    nodes = {node.name: node for node in model.graph}
    units = [item.unit for item in run if isinstance(item, Leaf)]
    # whatever is no Leaf pads nothing: `fuse` refuses to move padding through a shortcut
    for unit in units:
        if nodes[unit.node.name].op_type == "MatMul":
            continue  # merged as the pointwise convolution that it is behind a Transpose
        _set_pads(nodes[unit.node.name], (0,) * len(unit.geometry.pads))
    first = nodes[units[0].node.name]
    if first.op_type == "AveragePool":
        _pad_before(model, first, merged.form.geometry.pads)
    else:
        _set_pads(first, merged.form.geometry.pads)
    _forget_shapes(first, nodes[units[-1].closing.name])


def _set_pads(node: ir.Node, pads: tuple[int, ...]) -> None:
    node.attributes["pads"] = ir.AttrInt64s("pads", pads)
    if "auto_pad" in node.attributes:
        node.attributes["auto_pad"] = ir.AttrString("auto_pad", "NOTSET")


def _pad_before(model: ir.Model, node: ir.Node, pads: tuple[int, ...]) -> None:
    """An average over more padding than its kernel is wide is not allowed, a Pad is."""
    rank = len(pads) // 2
    every = np.array([0, 0, *pads[:rank], 0, 0, *pads[rank:]], dtype=np.int64)
    held = initializer(model, f"{node.name}/pads", every)
    pad = ir.node("Pad", [node.inputs[0], held], name=f"{node.name}/pad")
    model.graph.insert_before(node, pad)
    node.replace_input_with(0, pad.outputs[0])


def _forget_shapes(start: ir.Node, end: ir.Node) -> None:
    """Sizes between the first and the last operator are others now."""
    stack = [start]
    while stack:
        node = stack.pop()
        if node is end:
            continue
        for output in node.outputs:
            output.shape = None
            stack += output.consumers()
