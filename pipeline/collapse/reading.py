"""Read units off a graph.

A unit is a Conv, a Gemm, or a MatMul with the Add of its bias; also an AveragePool (a depthwise
convolution whose taps are all 1 / K) and the parameter-free shortcut that skips pixels and pads
channels. What a unit stands for is remembered across rewrites in the node's `meta`.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from pipeline.collapse.algebra import Linear
from pipeline.collapse.drawing import final_dtype
from pipeline.collapse.units import SOURCES, Sources, Unit
from pipeline.graphs.constants import (
    constant,
    elements,
    integer,
    integers,
    number,
    sole_consumer,
    text,
)
from pipeline.graphs.geometry import Geometry
from pipeline.graphs.operators import per_channel_operand, read_operator


def unit_of(node: ir.Node) -> Unit | None:
    """The unit whose first node this is."""
    if node.op_type == "AveragePool":
        return _average_pool(node)
    if node.op_type == "Slice":
        return _skip_pixels(node)
    operator = read_operator(node)
    if operator is None:
        return None
    value, weight, bias = (*node.inputs, None)[:3]
    if value is None or weight is None:
        return None
    if bias is not None and not _fits(bias, operator.geometry.out_channels):
        return None
    closing = node
    if node.op_type == "MatMul":
        closing, bias = _bias_add(node)
    sources = node.meta.get(SOURCES) or Sources((operator.node,), (operator.weight,))
    return Unit(
        node=node,
        closing=closing,
        input=value,
        output=closing.outputs[0],
        geometry=operator.geometry,
        positions=operator.positions,
        has_bias=bias is not None,
        dtype=final_dtype(weight),
        sources=sources,
        linear=lambda: _linear(node, operator.geometry, weight, bias),
    )


def _fits(bias: ir.Value, channels: int) -> bool:
    """A constant with one number per channel, or one for all; a Gemm's may differ per row."""
    array = constant(bias)
    if array is None:
        return False
    return array.size == 1 or array.shape[-1] == array.size == channels


def _bias_add(node: ir.Node) -> tuple[ir.Node, ir.Value | None]:
    product = node.outputs[0]
    add = sole_consumer(product)
    if add is None or add.op_type != "Add":
        return node, None
    bias = per_channel_operand(add, product, -1)
    return (add, bias) if bias is not None else (node, None)


def _linear(node: ir.Node, geometry: Geometry, weight: ir.Value, bias: ir.Value | None) -> Linear:
    array = np.asarray(constant(weight), dtype=np.float64)
    offset = None if bias is None else np.asarray(constant(bias), dtype=np.float64).reshape(-1)
    if node.op_type == "MatMul":
        array = array.T
    elif node.op_type == "Gemm":
        array = array if integer(node, "transB", 0) else array.T
        array = array * number(node, "alpha", 1.0)
        offset = None if offset is None else offset * number(node, "beta", 1.0)
    if offset is not None:
        offset = np.broadcast_to(offset, (geometry.out_channels,))
    return Linear(geometry, array, offset)


def _average_pool(node: ir.Node) -> Unit | None:
    value = node.inputs[0]
    channels = value.shape[1] if value is not None and value.shape is not None else None
    if not isinstance(channels, int):
        return None
    kernel = integers(node, "kernel_shape", ())
    pads = integers(node, "pads", (0,) * (2 * len(kernel)))
    plain = integer(node, "ceil_mode", 0) == 0 and text(node, "auto_pad", "NOTSET") == "NOTSET"
    if not plain or (any(pads) and not integer(node, "count_include_pad", 0)):
        return None
    geometry = Geometry(
        kernel=kernel,
        strides=integers(node, "strides", (1,) * len(kernel)),
        dilations=integers(node, "dilations", (1,) * len(kernel)),
        pads=pads,
        groups=channels,
        in_channels=channels,
        out_channels=channels,
    )
    weight = np.full((channels, 1, *kernel), 1.0 / prod(kernel))
    return _weightless(node, node, geometry, weight)


def _skip_pixels(node: ir.Node) -> Unit | None:
    """x[:, :, ::s, ::s] with channels of zeros around it: a projection without parameters."""
    value, skipped = node.inputs[0], node.outputs[0]
    if value is None or value.shape is None or len(value.shape) != 4:
        return None
    given = [constant(v) for v in node.inputs[1:]]
    if len(given) < 4 or any(array is None for array in given):
        return None
    starts, ends, axes, steps = ([int(i) for i in a.ravel()] for a in given if a is not None)
    strides = {axis % 4: step for axis, step in zip(axes, steps, strict=True)}
    whole = all(
        start == 0 and (end >= 2**30 or end == value.shape[axis])
        for start, end, axis in zip(starts, ends, axes, strict=True)
    )
    if not whole or any(strides.get(axis, 1) != 1 for axis in (0, 1)) or min(steps) < 1:
        return None
    before, closing = 0, node
    pad = sole_consumer(skipped)
    if pad is not None and pad.op_type == "Pad":
        padding = constant(pad.inputs[1]) if len(pad.inputs) > 1 else None
        fill = constant(pad.inputs[2]) if len(pad.inputs) > 2 else None
        if padding is None or padding.size != 8 or (fill is not None and fill.any()):
            return None
        if padding[[0, 2, 3, 4, 6, 7]].any() or text(pad, "mode", "constant") != "constant":
            return None
        before, closing = int(padding[1]), pad
    shape = closing.outputs[0].shape
    inputs, outputs = value.shape[1], shape[1] if shape is not None else None
    if not isinstance(inputs, int) or not isinstance(outputs, int):
        return None
    stride = (strides.get(2, 1), strides.get(3, 1))
    geometry = Geometry((1, 1), stride, (1, 1), (0,) * 4, 1, inputs, outputs)
    weight = np.zeros((outputs, inputs, 1, 1))
    weight[before + np.arange(inputs), np.arange(inputs)] = 1.0
    return _weightless(node, closing, geometry, weight)


def _weightless(node: ir.Node, closing: ir.Node, geometry: Geometry, weight: np.ndarray) -> Unit:
    value = node.inputs[0]
    assert value is not None
    output = closing.outputs[0]
    return Unit(
        node=node,
        closing=closing,
        input=value,
        output=output,
        geometry=geometry,
        positions=max(elements(output) // geometry.out_channels, 1),
        has_bias=False,
        dtype=(value.dtype or ir.DataType.FLOAT).numpy(),
        sources=Sources((node.name or node.op_type,), ()),
        linear=lambda: Linear(geometry, weight, None),
    )
