"""Networks of a chosen size, and the same ones made slower by operators that really run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def plain_network(
    path: Path, *, convolutions: int, channels: int, size: int, extra_width: int = 0
) -> Path:
    """3x3 convolutions with ReLUs; `extra_width` adds a multiplication of that inner size.

    The extra operator hangs on the pooled features, x + (x A) B with A of (channels, width), so
    its cost grows linearly with the width, whatever the rest costs.
    """
    noise = np.random.default_rng(0)
    nodes, weights, value, width = [], [], "image", 3
    for index in range(convolutions):
        weight = noise.standard_normal((channels, width, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight / np.float32(9 * width) ** 0.5, f"w{index}"))
        nodes.append(helper.make_node("Conv", [value, f"w{index}"], [f"c{index}"],
                                      name=f"conv{index}", pads=[1, 1, 1, 1]))  # fmt: skip
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"], name=f"relu{index}"))
        value, width = f"r{index}", channels
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["pooled"], name="pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"))
    value = "flat"
    if extra_width:
        for name, shape in (("A", (channels, extra_width)), ("B", (extra_width, channels))):
            matrix = noise.standard_normal(shape).astype(np.float32) / np.float32(shape[0]) ** 0.5
            weights.append(numpy_helper.from_array(matrix, name))
        nodes.append(helper.make_node("MatMul", [value, "A"], ["wide"], name="extra0"))
        nodes.append(helper.make_node("MatMul", ["wide", "B"], ["narrow"], name="extra1"))
        nodes.append(helper.make_node("Add", [value, "narrow"], ["sum"], name="extra2"))
        value = "sum"
    nodes.append(helper.make_node("Identity", [value], ["features"], name="out"))
    graph = helper.make_graph(
        nodes,
        "plain",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, channels])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return path
