"""The network that `shoal collapse` is asked to shorten, and the asking."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline.reporting.progress import Reporter
from pipeline.verbs.collapsed import CollapseDocument, Wish, collapse_file

QUIET = Reporter(quiet=True)


def write_residual(folder: Path) -> Path:
    """Two residual blocks and a head: 3x3, ReLU, 3x3, shortcut, ReLU; dynamic batch."""
    generator = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for block in range(2):
        for half in ("a", "b"):
            weight = generator.standard_normal((4, 4, 3, 3)).astype(np.float32) / 6
            weights.append(numpy_helper.from_array(weight, f"w{block}{half}"))
        names = {key: f"{key}{block}" for key in ("h", "r", "k", "s", "y")}
        for op, inputs, output in (
            ("Conv", [value, f"w{block}a"], names["h"]),
            ("Relu", [names["h"]], names["r"]),
            ("Conv", [names["r"], f"w{block}b"], names["k"]),
            ("Add", [names["k"], value], names["s"]),
            ("Relu", [names["s"]], names["y"]),
        ):
            node = helper.make_node(op, inputs, [output], name=f"{op.lower()}_{output}")
            if op == "Conv":
                node.attribute.append(helper.make_attribute("pads", [1, 1, 1, 1]))
            nodes.append(node)
        value = names["y"]
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, 12, 12])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["n", 4, 12, 12])],
        weights,
    )
    path = folder / "in.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path
    )
    return path


INNER = ("relu_r0#0", "relu_r1#0")
MOVED = Wish(linearise=INNER, merge="always", move_padding=True)


def collapse_it(path: Path, wish: Wish) -> CollapseDocument:
    return collapse_file(path, path.with_name("out.onnx"), wish, QUIET)
