"""See through Transpose, Reshape and Flatten: where do an operator's channels end up?

A tensor that holds its own channel index is sent through the nodes. As long as one axis alone
still counts the channels, what acts on that axis afterwards can act before as well:

    conv1x1, transpose, matrix   =   conv1x1, conv1x1, transpose
    matrix, transpose, scale     =   scaled matrix, transpose
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from pipeline.graphs.building import initializer
from pipeline.graphs.constants import constant, sole_consumer

LAYOUT = {"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"}
DYNAMIC = 2  # stands for every symbolic size; with 1, a batch could hide in the channels
LARGEST_PROBE = 2**24


@dataclass(frozen=True, slots=True)
class Passage:
    """Layout nodes in a row, and the channel axis behind each of them."""

    nodes: tuple[ir.Node, ...]
    axes: tuple[int, ...]
    end: ir.Value

    @property
    def axis(self) -> int:
        return self.axes[-1]


def passage(start: ir.Value, axis: int) -> Passage | None:
    """The layout nodes behind `start` that keep its channel axis whole, if there are any."""
    shape = probe_shape(start)
    if shape is None or np.prod(shape) > LARGEST_PROBE:
        return None
    axis %= len(shape)
    channels = shape[axis]
    index = np.arange(channels).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    held = np.broadcast_to(index, shape)
    nodes: list[ir.Node] = []
    axes: list[int] = []
    value = start
    while (node := sole_consumer(value)) is not None and node.op_type in LAYOUT:
        held = evaluate(node, [held, *(constant(v) for v in node.inputs[1:])])
        found = _counting_axis(held, channels) if held is not None else None
        if held is None or found is None or node.inputs[0] is not value:
            break
        nodes.append(node)
        axes.append(found)
        value = node.outputs[0]
    return Passage(tuple(nodes), tuple(axes), value) if nodes else None


def probe_shape(value: ir.Value) -> tuple[int, ...] | None:
    if value.shape is None:
        return None
    sizes = []
    for dimension in value.shape:
        if not isinstance(dimension, int):
            if dimension.value is None:
                return None
            dimension = dimension.evaluate(dict.fromkeys(dimension.free_symbols(), DYNAMIC))
        if not isinstance(dimension, int):
            return None
        sizes.append(dimension)
    return tuple(sizes)


def _counting_axis(held: np.ndarray, channels: int) -> int | None:
    """The one axis along which the array counts 0, 1, ..., channels - 1 everywhere."""
    for axis in range(held.ndim):
        if held.shape[axis] == channels:
            index = np.arange(channels).reshape([-1 if a == axis else 1 for a in range(held.ndim)])
            if (held == index).all():
                return axis
    return None


def evaluate(node: ir.Node, arrays: list[np.ndarray | None]) -> np.ndarray | None:
    """One node of the reference evaluator; None where an input is not known."""
    inputs = [value for value in node.inputs if value is not None]
    if any(array is None for array in arrays) or len(inputs) != len(arrays):
        return None
    graph = onnx.helper.make_graph(
        [ir.serde.serialize_node(node)],
        "one",
        [onnx.helper.make_empty_tensor_value_info(value.name or "") for value in inputs],
        [onnx.helper.make_empty_tensor_value_info(node.outputs[0].name or "")],
    )
    version = node.graph.opset_imports.get("", 18) if isinstance(node.graph, ir.Graph) else 18
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", version)])
    feeds = {value.name or "": array for value, array in zip(inputs, arrays, strict=True)}
    try:
        (result,) = ReferenceEvaluator(model).run(None, feeds)
    except ValueError:  # a Reshape that does not fit the probe's sizes
        return None
    return np.asarray(result)


def rebuilt(
    model: ir.Model, found: Passage, start: ir.Value, channels: int
) -> list[ir.Node] | None:
    """The same layout nodes behind `start`, for another number of channels."""
    made: list[ir.Node] = []
    value = start
    for node, axis in zip(found.nodes, found.axes, strict=True):
        inputs = [value, *node.inputs[1:]]
        if node.op_type == "Reshape":
            sizes = constant(node.inputs[1])
            if sizes is None:
                return None
            sizes = sizes.copy()
            if sizes[axis] > 0:
                sizes[axis] = channels
            inputs[1] = initializer(model, f"{node.name}/sizes", sizes)
        copy = ir.Node("", node.op_type, inputs, node.attributes.values(), name=node.name)
        shape = node.outputs[0].shape
        if shape is not None:
            copied = list(shape)
            copied[axis] = channels
            copy.outputs[0].shape = ir.Shape(copied)
        copy.outputs[0].type = node.outputs[0].type
        made.append(copy)
        value = copy.outputs[0]
    return made
