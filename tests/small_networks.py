"""Odd networks for runtimes, and a run of any."""

from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from runtimes import base
from runtimes.base import Arrays, Inputs, Runtime
from runtimes.inputs import seeded

SHAPE = [1, 3, 8, 8]


def counting_network(path: Path) -> Path:
    """Its output's shape is decided by its input's values."""
    node = helper.make_node("NonZero", ["x"], ["y"], name="count")
    graph = helper.make_graph(
        [node],
        "counting",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [2, "n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


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
