"""Networks of one convolution in fp16 and in int8, as exporters write them, and a run of them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtimes import base
from runtimes.base import Arrays, Inputs, Runtime
from runtimes.inputs import seeded

SHAPE = [1, 3, 8, 8]


def half_network(path: Path) -> Path:
    """y = Conv(x) with weights, input and output in float16."""
    weight = _noise((4, 3, 3, 3)).astype(np.float16)
    conv = helper.make_node("Conv", ["x", "weight"], ["y"], name="conv", pads=[1, 1, 1, 1])
    return _save(path, [conv], [numpy_helper.from_array(weight, "weight")], TensorProto.FLOAT16)


def quantised_network(path: Path) -> Path:
    """y = Conv(DQ(Q(x)), DQ(weight)), the weight quantised per channel."""
    weight = _noise((4, 3, 3, 3))
    scales = (np.abs(weight).max(axis=(1, 2, 3)) / 127).astype(np.float32)
    levels = np.rint(weight / scales[:, None, None, None]).astype(np.int8)
    constants = [
        numpy_helper.from_array(levels, "levels"),
        numpy_helper.from_array(scales, "scales"),
        numpy_helper.from_array(np.zeros(4, np.int8), "zeros"),
        numpy_helper.from_array(np.array(0.03, np.float32), "step"),
        numpy_helper.from_array(np.array(0, np.int8), "zero"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["xq"], name="quantise"),
        helper.make_node("DequantizeLinear", ["xq", "step", "zero"], ["xd"], name="dequantise"),
        helper.make_node(
            "DequantizeLinear", ["levels", "scales", "zeros"], ["w"], name="weights", axis=0
        ),
        helper.make_node("Conv", ["xd", "w"], ["y"], name="conv", pads=[1, 1, 1, 1]),
    ]
    return _save(path, nodes, constants, TensorProto.FLOAT)


def counting_network(path: Path) -> Path:
    """Its output's shape is decided by its input's values."""
    node = helper.make_node("NonZero", ["x"], ["y"], name="count")
    graph = helper.make_graph(
        [node],
        "counting",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [2, "n"])],
    )
    return _write(path, graph)


def run(runtime: Runtime, path: Path, *, layers: bool = False) -> Any:
    """A session that has run once."""
    session = runtime.load(path, threads=1, inputs=seeded(batch=1), layers=layers)
    session.run()
    return session


def reference(path: Path, inputs: Inputs | None = None) -> Arrays:
    """What ONNX Runtime computes on the CPU."""
    session = base.make("ort", "cpu").load(path, threads=1, inputs=inputs or seeded(batch=1))
    session.run()
    return session.outputs()


def _noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32) / 5


def _save(path: Path, nodes: list, constants: list, kind: int) -> Path:
    ports = (
        helper.make_tensor_value_info("x", kind, SHAPE),
        helper.make_tensor_value_info("y", kind, [1, 4, 8, 8]),
    )
    graph = helper.make_graph(nodes, "one_conv", [ports[0]], [ports[1]], constants)
    return _write(path, graph)


def _write(path: Path, graph: onnx.GraphProto) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
