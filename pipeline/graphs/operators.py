"""Read the linear operators with weights, and what may stand between two of them, off a graph."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from pipeline.graphs.constants import (
    constant,
    elements,
    integer,
    integers,
    module_path,
    number,
    size_of,
    text,
)
from pipeline.graphs.geometry import Geometry, matrix

OPERATORS = {"Conv", "Gemm", "MatMul"}
ARITHMETIC = {"Add", "Sub", "Mul", "Div"}


@dataclass(frozen=True, slots=True)
class Operator:
    """One Conv, Gemm or MatMul with constant weights; `macs` are for one sample.

    A dynamic axis counts as 1, so that a text's are for one token.
    """

    node: str
    op: str
    weight: str
    scope: str
    geometry: Geometry
    positions: int
    macs: int
    input: str
    output: str

    @property
    def parameter(self) -> str:
        """The weight's name in the torch model: exporters rename a matrix that they transpose."""
        return self.weight if self.weight.endswith(".weight") else f"{self.scope}.weight"


def read_operator(node: ir.Node) -> Operator | None:
    """The operator that a node is; None if it is none, or its weights are computed."""
    if node.op_type not in OPERATORS or node.domain not in {"", "ai.onnx"}:
        return None
    value, weight = node.inputs[0], node.inputs[1]
    if value is None or weight is None or weight.const_value is None or weight.is_graph_input():
        return None
    shape = tuple(size for size in weight.const_value.shape if isinstance(size, int))
    if node.op_type == "Conv":
        geometry = _conv_geometry(node, value, shape)
    else:
        geometry = _matrix_geometry(node, shape)
    if geometry is None:
        return None
    output = node.outputs[0]
    positions = max(elements(output) // max(geometry.out_channels, 1), 1)
    return Operator(
        node=node.name or "",
        op=node.op_type,
        weight=weight.name or "",
        scope=_scope(node, weight),
        geometry=geometry,
        positions=positions,
        macs=geometry.macs(positions),
        input=value.name or "",
        output=output.name or "",
    )


def _scope(node: ir.Node, weight: ir.Value) -> str:
    """The weight's own name is the better path: a Conv fused with a norm carries the norm's."""
    name = weight.name or ""
    return name.removesuffix(".weight") if name.endswith(".weight") else module_path(node)


def _conv_geometry(node: ir.Node, value: ir.Value, shape: tuple[int, ...]) -> Geometry | None:
    kernel = shape[2:]
    if not kernel:
        return None
    strides = integers(node, "strides", (1,) * len(kernel))
    dilations = integers(node, "dilations", (1,) * len(kernel))
    groups = integer(node, "group", 1)
    pads = _pads(node, value, kernel, strides, dilations)
    if pads is None:
        return None
    return Geometry(kernel, strides, dilations, pads, groups, shape[1] * groups, shape[0])


def _pads(
    node: ir.Node,
    value: ir.Value,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> tuple[int, ...] | None:
    """Explicit pads, `auto_pad` resolved; None where SAME depends on a size nobody knows."""
    mode = text(node, "auto_pad", "NOTSET")
    if mode in {"NOTSET", ""}:
        return integers(node, "pads", (0,) * (2 * len(kernel)))
    if mode == "VALID":
        return (0,) * (2 * len(kernel))
    begins, ends = [], []
    for axis, (size, stride, dilation) in enumerate(zip(kernel, strides, dilations, strict=True)):
        reach = dilation * (size - 1) + 1
        if stride == 1:
            total = reach - 1
        else:
            length = value.shape[axis + 2] if value.shape is not None else None
            if not isinstance(length, int):
                return None
            total = max((-(-length // stride) - 1) * stride + reach - length, 0)
        small, large = total // 2, total - total // 2
        begins.append(small if mode == "SAME_UPPER" else large)
        ends.append(large if mode == "SAME_UPPER" else small)
    return (*begins, *ends)


def _matrix_geometry(node: ir.Node, shape: tuple[int, ...]) -> Geometry | None:
    if len(shape) != 2:
        return None
    if node.op_type == "MatMul":
        return matrix(*shape)
    if integer(node, "transA", 0) or number(node, "alpha", 1.0) == 0.0:
        return None
    return matrix(shape[1], shape[0]) if integer(node, "transB", 0) else matrix(*shape)


def glue_kind(node: ir.Node, value: ir.Value, axis: int | None = None) -> str | None:
    """How a node that reads `value` passes linear operators through, None if it does not.

    identity  nothing happens        affine   per-channel scale and shift by constants
    pool      mean over space        flatten  drops spatial axes of size one

    `axis` is the channels', looked up from the operator before where it is not given.
    """
    if node.inputs[0] is not value and node.op_type not in ARITHMETIC:
        return None
    if node.op_type == "Identity":
        return "identity"
    if node.op_type == "AveragePool" and _pools_nothing(node):
        return "identity"
    if node.op_type == "Dropout":
        return "identity" if _inference_dropout(node) else None
    if node.op_type == "BatchNormalization":
        return "affine" if _norm_of_axis(node, value, axis) else None
    if node.op_type in ARITHMETIC:
        return "affine" if per_channel_operand(node, value, axis) is not None else None
    if node.op_type == "GlobalAveragePool" or _mean_over_space(node, value):
        return "pool"
    if node.op_type in {"Reshape", "Flatten", "Squeeze"} and _drops_ones(node, value):
        return "flatten"
    return None


def _norm_of_axis(node: ir.Node, value: ir.Value, axis: int | None) -> bool:
    """A batch norm at inference, whose channels, axis 1, are the operator's too."""
    if integer(node, "training_mode", 0) or value.shape is None:
        return False
    wanted = channel_axis_of_operator(value) if axis is None else axis % len(value.shape)
    return wanted == 1


def _pools_nothing(node: ir.Node) -> bool:
    """One pixel at a time, which is what AdaptiveAvgPool becomes on a map of its own size."""
    sizes = (*integers(node, "kernel_shape", (0,)), *integers(node, "strides", (1,)))
    return set(sizes) == {1} and not any(integers(node, "pads", (0,)))


def _inference_dropout(node: ir.Node) -> bool:
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return False
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return True
    training = constant(node.inputs[2])
    return training is not None and not bool(training.reshape(()))


def per_channel_operand(node: ir.Node, value: ir.Value, axis: int | None = None) -> ir.Value | None:
    """The constant operand if it has one number, or one per channel."""
    if len(node.inputs) != 2 or node.inputs[0] is node.inputs[1]:
        return None
    other = node.inputs[1] if node.inputs[0] is value else node.inputs[0]
    array = constant(other)
    if other is None or array is None or value.shape is None:
        return None
    if node.op_type == "Div" and node.inputs[1] is not other:
        return None
    rank = len(value.shape)
    axis = channel_axis_of_operator(value) if axis is None else axis % max(rank, 1)
    if array.ndim > rank:
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    if any(size != 1 for index, size in enumerate(shape) if index != axis):
        return None
    return other if shape[axis] in {1, size_of(value.shape[axis])} else None


def channel_axis_of_operator(value: ir.Value) -> int:
    """The channel axis of a value that comes, through glue, out of an operator."""
    node = value.producer()
    while node is not None and node.op_type not in {"Conv", "Gemm", "MatMul"}:
        if node.op_type in {"ConvTranspose", "BatchNormalization", "GlobalAveragePool"}:
            return 1
        inputs = [v for v in node.inputs if v is not None and constant(v) is None]
        node = inputs[0].producer() if inputs else None
    rank = len(value.shape) if value.shape is not None else 0
    return 1 if node is not None and node.op_type == "Conv" else max(rank - 1, 0)


def _mean_over_space(node: ir.Node, value: ir.Value) -> bool:
    if node.op_type == "AveragePool" and value.shape is not None:
        whole = integers(node, "kernel_shape", ()) == tuple(value.shape[2:])
        return whole and not any(integers(node, "pads", (0,)))
    if node.op_type != "ReduceMean" or value.shape is None or len(value.shape) < 3:
        return False
    given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = tuple(given.ravel().tolist()) if given is not None else integers(node, "axes", ())
    rank = len(value.shape)
    return sorted(int(axis) % rank for axis in axes) == list(range(2, rank))


def _drops_ones(node: ir.Node, value: ir.Value) -> bool:
    """(N, C, 1, 1) to (N, C)."""
    before, after = value.shape, node.outputs[0].shape
    if before is None or after is None or len(after) != 2 or len(before) < 2:
        return False
    return prod(size_of(d) for d in before[2:]) == 1 and before[1] == after[1]
