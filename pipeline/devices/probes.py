"""Small networks whose right answer is known: what a runtime is proved with.

Each is one thing that deployments get wrong: a batch that is not in the file, weights and tensors
in float16, convolutions between quantise/dequantise pairs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8  # what TensorRT 10.3 and ONNX Runtime on JetPack 6 both read
CHANNELS, SIZE = 4, 8


def stacked_network(path: Path, *, batch: int | str = "n", depth: int = 3) -> Path:
    """Convolutions and ReLUs in float32 with a batch that may be decided later."""
    nodes, weights, value, width = [], [], "x", 3
    for index in range(depth):
        weights.append(numpy_helper.from_array(_noise(CHANNELS, width, index), f"weight{index}"))
        last = "y" if index == depth - 1 else f"relu{index}"
        nodes += [
            _conv(f"conv{index}", [value, f"weight{index}"], f"conv{index}"),
            helper.make_node("Relu", [f"conv{index}"], [last], name=f"relu{index}"),
        ]
        value, width = last, CHANNELS
    return _write(path, nodes, weights, TensorProto.FLOAT, batch)


def half_network(path: Path) -> Path:
    """y = Conv(x) with weights, input and output in float16."""
    weight = numpy_helper.from_array(_noise(CHANNELS, 3).astype(np.float16), "weight")
    conv = _conv("conv", ["x", "weight"], "y")
    return _write(path, [conv], [weight], TensorProto.FLOAT16, 1)


def quantised_network(path: Path) -> Path:
    """y = Conv(DQ(Q(x)), DQ(weight)), the weight quantised per channel."""
    weight = _noise(CHANNELS, 3)
    scales = (np.abs(weight).max(axis=(1, 2, 3)) / 127).astype(np.float32)
    levels = np.rint(weight / scales[:, None, None, None]).astype(np.int8)
    constants = {
        "levels": levels,
        "scales": scales,
        "zeros": np.zeros(CHANNELS, np.int8),
        "step": np.array(0.03, np.float32),
        "zero": np.array(0, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["xq"], name="quantise"),
        helper.make_node("DequantizeLinear", ["xq", "step", "zero"], ["xd"], name="dequantise"),
        helper.make_node(
            "DequantizeLinear", ["levels", "scales", "zeros"], ["w"], name="weights", axis=0
        ),
        _conv("conv", ["xd", "w"], "y"),
    ]
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    return _write(path, nodes, weights, TensorProto.FLOAT, 1)


def _conv(name: str, inputs: list[str], output: str) -> onnx.NodeProto:
    return helper.make_node("Conv", inputs, [output], name=name, pads=[1, 1, 1, 1])


def _noise(outputs: int, inputs: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((outputs, inputs, 3, 3))
    return (noise / 5).astype(np.float32)


def _write(
    path: Path,
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    kind: int,
    batch: int | str,
) -> Path:
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("x", kind, [batch, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", kind, [batch, CHANNELS, SIZE, SIZE])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
