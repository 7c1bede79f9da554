"""What a network costs, counted on its graph; dynamic sizes are taken as 1."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from pipeline.graphs.constants import elements
from pipeline.graphs.operators import read_operator
from pipeline.mapping import depth_of


@dataclass(frozen=True, slots=True)
class Cost:
    """`bytes_moved`: every node's operands and results, once each; `nodes`: of any kind."""

    macs: int
    parameters: int
    bytes_moved: int
    nodes: int
    operators: int
    depth: int


def cost_of(model: ir.Model) -> Cost:
    operators = [found for node in model.graph if (found := read_operator(node)) is not None]
    moved = 0
    for node in model.graph:
        for value in (*dict.fromkeys(node.inputs), *node.outputs):
            if value is not None and value.dtype is not None:
                moved += round(elements(value) * value.dtype.itemsize)
    weights = [v.const_value for v in model.graph.initializers.values() if v.const_value]
    return Cost(
        macs=sum(operator.macs for operator in operators),
        parameters=sum(tensor.size for tensor in weights if tensor.dtype.is_floating_point()),
        bytes_moved=moved,
        nodes=len(model.graph),
        operators=len(operators),
        depth=depth_of(model),
    )
