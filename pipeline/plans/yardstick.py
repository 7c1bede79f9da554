"""The network that everything small is measured beside, so that hosts and days compare.

A piece of a network is timed as a multiple of this one, block by block, and so is the dense
network: whatever slows the whole host down, for a second or since last week, cancels.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx_ir as ir

from pipeline.graphs.building import BLOCK
from profiles.environment import DECISIVE
from profiles.measurement import Measurement

CHANNELS, PIXELS = 64, 28  # two 3x3 convolutions: about a millisecond of a CPU's core
DIFFERS = ("shapes", "precision", "inference_precision")  # between a network and a piece of it
OPSET, IR_VERSION = 17, 8


def write_yardstick(path: Path) -> Path:
    """Two 3x3 convolutions with their activations."""
    noise = np.random.default_rng(0).standard_normal(BLOCK).astype(np.float32)
    shape = (CHANNELS, CHANNELS, 3, 3)
    image = ir.Value(
        name="yardstick",
        type=ir.TensorType(ir.DataType.FLOAT),
        shape=ir.Shape(("N", CHANNELS, PIXELS, PIXELS)),
    )
    value, nodes, weights = image, [], []
    for index in range(2):
        tensor = ir.tensor(np.resize(noise, shape) * (2 / (9 * CHANNELS)) ** 0.5, name=f"w{index}")
        weight = ir.Value(name=f"w{index}", type=ir.TensorType(tensor.dtype), shape=ir.Shape(shape))
        weight.const_value = tensor
        weights.append(weight)
        nodes.append(ir.node("Conv", [value, weight], {"pads": [1, 1, 1, 1]}, name=f"conv{index}"))
        nodes.append(ir.node("Relu", [nodes[-1].outputs[0]], name=f"relu{index}"))
        value = nodes[-1].outputs[0]
    value.name, value.type, value.shape = "out", image.type, image.shape
    graph = ir.Graph(
        [image], [value], nodes=nodes, initializers=weights, opset_imports={"": OPSET}, name="yard"
    )
    ir.save(ir.Model(graph, ir_version=IR_VERSION), path)
    return path


def conditions(dense: Measurement) -> str:
    """The hash of what its time depends on besides the network."""
    said = {name: text for name, text in dense.identity.items() if name not in DIFFERS}
    host = {name: dense.fingerprint.facts.get(name) for name in DECISIVE}
    return sha256(json.dumps([said, host], sort_keys=True).encode()).hexdigest()


def sizes(model: ir.Model, batch: int) -> dict[str, tuple[int, ...]]:
    """The inputs' shapes where they are known: a piece's first axis may be 64 windows a sample."""
    known = {}
    for value in model.graph.inputs:
        if value.shape is None or len(value.shape) == 0:
            continue
        others = [size for size in value.shape[1:] if isinstance(size, int)]
        if len(others) == len(value.shape) - 1:
            known[value.name or ""] = (_samples(value.shape[0], batch), *others)
    return known


def _samples(first: int | ir.SymbolicDim, batch: int) -> int:
    if isinstance(first, int):
        return first
    symbols: dict[str, int] = dict.fromkeys(first.free_symbols(), batch) if first.value else {}
    size = first.evaluate(symbols) if symbols else None
    return size if isinstance(size, int) else batch
