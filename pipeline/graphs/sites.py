"""Find the activations of a graph, whole nodes and decompositions alike.

An exporter may write SiLU as `x * Sigmoid(x)` and GELU as `0.5 x (1 + Erf(x / sqrt 2))`, in several
orders. Instead of one pattern per spelling, the closed elementwise region between a value and a
single output is evaluated on a few numbers and compared with the functions of that name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from scipy.special import erf, expit

from pipeline.graphs.constants import (
    constant,
    dimensions,
    integer,
    module_path,
    number,
    scalar,
    text,
)

PROBE = np.array([-7.3, -3.0, -1.7, -0.6, -0.01, 0.0, 0.02, 0.4, 1.3, 2.9, 3.1, 5.7, 6.5, 9.0])
LONGEST_DECOMPOSITION = 10
CHANNELS_LAST = {"MatMul", "Gemm", "LayerNormalization"}
CHANNELS_FIRST = {"Conv", "ConvTranspose", "BatchNormalization", "MaxPool", "AveragePool"}


@dataclass(frozen=True, slots=True)
class Site:
    """One activation call."""

    id: str
    kind: str
    node: str
    nodes: tuple[str, ...]
    channels: int | None
    channel_axis: int
    shape: tuple[int | str, ...]
    input: str
    output: str
    segment: str | None = None


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0.0, x)


FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "relu6": lambda x: np.clip(x, 0.0, 6.0),
    "gelu": lambda x: 0.5 * x * (1.0 + erf(x / np.sqrt(2.0))),
    "gelu_tanh": lambda x: 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * expit(x),
    "quick_gelu": lambda x: x * expit(1.702 * x),
    "hard_swish": lambda x: x * np.clip(x + 3.0, 0.0, 6.0) / 6.0,
    "hard_sigmoid": lambda x: np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "softplus": _softplus,
}

ELEMENTWISE: dict[str, Callable[..., np.ndarray]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Erf": erf,
    "Tanh": np.tanh,
    "Sigmoid": expit,
    "Softplus": _softplus,
    "Relu": FUNCTIONS["relu"],
    "Exp": np.exp,
    "Log": np.log,
    "Neg": np.negative,
    "Min": np.minimum,
    "Max": np.maximum,
    "Cast": lambda x: x,
    "Greater": np.greater,
    "Less": np.less,
    "Where": np.where,
}

NAMED = {
    "Relu": "relu",
    "LeakyRelu": "leaky_relu",
    "PRelu": "prelu",
    "HardSwish": "hard_swish",
    "HardSigmoid": "hard_sigmoid",
    "Elu": "elu",
    "Tanh": "tanh",
    "Softplus": "softplus",
    "Mish": "mish",
    "Selu": "selu",
    "Celu": "celu",
    "Swish": "silu",
}


def kind_of(node: ir.Node) -> str | None:
    """The activation that a single node is, if it is one."""
    if node.op_type == "Clip":
        bounds = [scalar(value) for value in (*node.inputs[1:], None, None)[:2]]
        return "relu6" if bounds == [0.0, 6.0] else "clip"
    if node.op_type == "Gelu":
        return "gelu_tanh" if text(node, "approximate", "none") == "tanh" else "gelu"
    if node.op_type == "Swish" and number(node, "alpha", 1.0) != 1.0:
        return "swish"
    return NAMED.get(node.op_type)


def find_sites(model: ir.Model) -> tuple[Site, ...]:
    """All activations, in graph order; ids count the calls within one module path."""
    order = {node: index for index, node in enumerate(model.graph)}
    found = [*_decompositions(order)]
    claimed = {node for nodes, _, _ in found for node in nodes}
    for node in order:
        kind = kind_of(node)
        value = node.inputs[0] if node.inputs else None
        if kind and node not in claimed and value is not None and constant(value) is None:
            found.append(((node,), value, kind))
    found.sort(key=lambda region: order[region[0][-1]])
    calls: dict[str, int] = {}
    sites = []
    for nodes, value, kind in found:
        path = module_path(nodes[-1])
        call = calls.get(path, 0)
        calls[path] = call + 1
        sites.append(_site(f"{path}#{call}", kind, nodes, value))
    return tuple(sites)


def _site(name: str, kind: str, nodes: tuple[ir.Node, ...], value: ir.Value) -> Site:
    shape = dimensions(value) or ()
    axis = channel_axis(value)
    size = shape[axis] if shape and axis < len(shape) else None
    return Site(
        id=name,
        kind=kind,
        node=nodes[-1].name or "",
        nodes=tuple(node.name or "" for node in nodes),
        channels=size if isinstance(size, int) else None,
        channel_axis=axis,
        shape=shape,
        input=value.name or "",
        output=nodes[-1].outputs[0].name or "",
    )


def channel_axis(value: ir.Value) -> int:
    """1 behind a convolution, the last axis behind a matrix; looked up through what is between."""
    rank = len(value.shape) if value.shape is not None else 4
    last = max(rank - 1, 0)
    node = value.producer()
    for _ in range(20):
        if node is None or node.op_type in CHANNELS_FIRST or node.op_type in {"Transpose"}:
            break
        if node.op_type in CHANNELS_LAST:
            return integer(node, "axis", last) % rank if rank else 0
        inputs = [v for v in node.inputs if v is not None and constant(v) is None]
        node = inputs[0].producer() if inputs else None
    if node is not None and node.op_type == "Transpose":
        return last if rank == 4 and _moves_channels_last(node) else min(1, last)
    return min(1, last)


def _moves_channels_last(node: ir.Node) -> bool:
    perm = node.attributes.get("perm")
    return perm is not None and tuple(perm.as_ints()) == (0, 2, 3, 1)


Region = tuple[tuple[ir.Node, ...], ir.Value, str]


def _decompositions(order: dict[ir.Node, int]) -> Iterator[Region]:
    """Closed elementwise regions of several nodes that compute a known activation."""
    claimed: set[ir.Node] = set()
    for node in order:
        if node in claimed or (node.op_type not in ELEMENTWISE and node.op_type != "Clip"):
            continue
        for value in dict.fromkeys(node.inputs):
            if value is None or constant(value) is not None:
                continue
            region = _known_region(value, order)
            if region and claimed.isdisjoint(region[0]):
                claimed.update(region[0])
                yield region


def _known_region(value: ir.Value, order: dict[ir.Node, int]) -> Region | None:
    results: dict[ir.Value, np.ndarray] = {value: PROBE}
    members: dict[ir.Node, None] = {}
    waiting = [node for node in value.consumers() if node in order]
    while waiting and len(members) < LONGEST_DECOMPOSITION:
        waiting.sort(key=lambda node: order[node])
        node = waiting.pop(0)
        if node in members:
            continue
        result = _evaluate(node, results)
        if result is None:
            continue
        members[node] = None
        results[node.outputs[0]] = result
        waiting += [user for user in node.outputs[0].consumers() if user in order]
        if len(members) > 1:
            kind = _name(result)
            nodes = _between(node, value, members) if kind else ()
            if kind and len(nodes) > 1 and _closed(nodes):
                return nodes, value, kind
    return None


def _evaluate(node: ir.Node, results: dict[ir.Value, np.ndarray]) -> np.ndarray | None:
    arguments = []
    for given in node.inputs:
        if given is None:
            arguments.append(None)
        elif given in results:
            arguments.append(results[given])
        else:
            number_given = scalar(given)
            if number_given is None:
                return None
            arguments.append(number_given)
    if node.op_type == "Clip":
        low, high = (*arguments[1:], None, None)[:2]
        return np.clip(arguments[0], low, high) if (low, high) != (None, None) else None
    function = ELEMENTWISE.get(node.op_type)
    if function is None or len(arguments) > (3 if node.op_type == "Where" else 2):
        return None
    with np.errstate(all="ignore"):
        return function(*arguments)


def _name(result: np.ndarray) -> str | None:
    for kind, function in FUNCTIONS.items():
        if np.allclose(result, function(PROBE), rtol=2e-3, atol=1e-4):
            return kind
    return None


def _between(last: ir.Node, start: ir.Value, members: dict[ir.Node, None]) -> tuple[ir.Node, ...]:
    needed: set[ir.Node] = set()
    stack = [last]
    while stack:
        node = stack.pop()
        if node not in needed:
            needed.add(node)
            for value in node.inputs:
                producer = value.producer() if value is not None and value is not start else None
                if producer in members:
                    stack.append(producer)
    return tuple(node for node in members if node in needed)


def _closed(nodes: tuple[ir.Node, ...]) -> bool:
    """Nothing outside sees what is computed inside, the last output excepted."""
    inside = set(nodes)
    return all(
        inside.issuperset(node.outputs[0].consumers()) and not node.outputs[0].is_graph_output()
        for node in nodes[:-1]
    )
