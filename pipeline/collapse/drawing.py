"""Write linear operators into a graph; arrays stay in float64 until everything is merged."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pipeline.collapse.algebra import Linear
from pipeline.collapse.units import SOURCES, Sources
from pipeline.graphs.building import conv_node, initializer

CAST = "shoal.cast"


def draw(
    model: ir.Model,
    read: ir.Value,
    linear: Linear,
    *,
    rank: int,
    name: str,
    dtype: np.dtype,
    sources: Sources,
) -> list[ir.Node]:
    """Nodes that compute `linear` of `read`; arrays stay in float64 until `cast_pending`."""
    geometry = linear.geometry
    bias = None
    if linear.bias is not None:
        bias = pending(model, f"{name}/bias", linear.bias, dtype)
    if geometry.rank:
        weight = pending(model, f"{name}/weight", linear.weight, dtype)
        nodes = [conv_node(read, weight, bias, geometry, name)]
    elif rank == 2:
        weight = pending(model, f"{name}/weight", linear.weight, dtype)
        inputs = [read, weight] if bias is None else [read, weight, bias]
        nodes = [ir.node("Gemm", inputs, {"transB": 1}, name=name)]
    else:
        weight = pending(model, f"{name}/weight", linear.weight.T, dtype)
        nodes = [ir.node("MatMul", [read, weight], name=name)]
        if bias is not None:
            nodes.append(ir.node("Add", [nodes[0].outputs[0], bias], name=f"{name}/add"))
    nodes[0].meta[SOURCES] = sources
    return nodes


def pending(model: ir.Model, name: str, array: np.ndarray, dtype: np.dtype) -> ir.Value:
    """A float64 initialiser that will be cast once, when everything is merged."""
    value = initializer(model, name, np.ascontiguousarray(array, dtype=np.float64))
    value.meta[CAST] = dtype
    return value


def final_dtype(value: ir.Value) -> np.dtype:
    """What an initialiser is in the file, whatever it is composed in."""
    return value.meta.get(CAST) or (value.dtype or ir.DataType.FLOAT).numpy()


def cast_pending(model: ir.Model) -> None:
    """Round every composed array to its type, once."""
    for value in model.graph.initializers.values():
        dtype = value.meta.pop(CAST, None)
        if dtype is not None and value.const_value is not None:
            array = value.const_value.numpy().astype(dtype)
            value.const_value = ir.tensor(array, name=value.name)
            value.type = ir.TensorType(value.const_value.dtype)


def put(
    model: ir.Model, nodes: list[ir.Node], end: ir.Value, *, scope: ir.Node | None = None
) -> ir.Value:
    """Let the last of `nodes` compute `end` from now on; what computed it is left to be removed."""
    closing = end.producer()
    assert closing is not None
    for node in nodes:
        if node.outputs[0].shape is None and node.op_type not in {"GlobalAveragePool", "Pad"}:
            node.outputs[0].type, node.outputs[0].shape = end.type, end.shape
    result = nodes[-1].outputs[0]
    result.meta.update(end.meta)
    if nodes[0] is not nodes[-1] and nodes[0].op_type == "MatMul":
        nodes[0].outputs[0].meta.update(end.meta)
    if scope is not None:
        for node in nodes:
            node.metadata_props.update(scope.metadata_props)
    model.graph.insert_before(closing, nodes)
    name = end.name
    end.replace_all_uses_with(result, replace_graph_outputs=True)
    end.name = f"{name}/replaced"
    result.name = name
    return result
