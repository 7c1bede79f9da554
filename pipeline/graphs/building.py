"""The network that a plan would give, with random weights: latency does not depend on them.

Each chosen span becomes one Conv or Gemm of the planned geometry, two matrices, or nothing. Weights
are He-scaled, so that no value overflows or becomes denormal on the way, and repeat one seeded
block: filling even large kernels costs a copy, and dozens of candidates are built in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod, sqrt

import numpy as np
import onnx_ir as ir

from pipeline.graphs.geometry import Geometry, matrix
from pipeline.mapping import Map, Option, Segment

BLOCK = 65_521  # a prime, so that the repetition never falls in step with a row of weights


def build(model: ir.Model, map_: Map, chosen: Sequence[Option], *, seed: int) -> ir.Model:
    """A new model with every chosen span replaced; `model` is not touched."""
    check_disjoint(chosen)
    built = model.clone()
    values = {value.name: value for node in built.graph for value in node.outputs}
    values |= {value.name: value for value in built.graph.inputs}
    for option in chosen:
        _replace(built, values, map_.segment(option.segment), option, seed)
    drop_unused_initializers(built)
    return built


def check_disjoint(chosen: Sequence[Option]) -> None:
    for index, one in enumerate(chosen):
        for other in chosen[:index]:
            if set(one.replaces) & set(other.replaces):
                raise ValueError(f"options {other.id} and {one.id} replace the same operators")


def _replace(
    model: ir.Model,
    values: dict[str | None, ir.Value],
    segment: Segment,
    option: Option,
    seed: int,
) -> None:
    first = segment.operators[option.first]
    source, end = (values[name] for name in segment.ends(option))
    closing = end.producer()
    if closing is None:
        raise ValueError(f"{end.name} is produced by no node")
    if option.kind == "drop":
        _drop(model, values, source, end, closing, option)
        return
    weight = model.graph.initializers[first.weight]
    dtype = (weight.dtype or ir.DataType.FLOAT).numpy()
    crosses_space = first.op == "Conv" and not option.geometry.rank
    nodes = _pooling(source, option) if crosses_space else []
    rank = len(end.shape) if end.shape is not None else 2
    read = nodes[-1].outputs[0] if nodes else source
    nodes += _operator(model, read, option, rank, dtype, seed)
    result = nodes[-1].outputs[0]
    for node in nodes:
        if node.op_type not in {"GlobalAveragePool", "Flatten"} and node.outputs[0].shape is None:
            node.outputs[0].type, node.outputs[0].shape = end.type, end.shape
            node.outputs[0].meta.update(end.meta)
    model.graph.insert_before(closing, nodes)
    name = end.name
    end.replace_all_uses_with(result, replace_graph_outputs=True)
    remove_dead(model.graph, closing)
    result.name = name
    for known in [key for key, value in values.items() if value is end]:
        values[known] = result


def _drop(
    model: ir.Model,
    values: dict[str | None, ir.Value],
    source: ir.Value,
    end: ir.Value,
    closing: ir.Node,
    option: Option,
) -> None:
    """What read the end reads the source; an output of the graph keeps its name by an Identity."""
    name, shown = end.name, end.is_graph_output()
    if shown:
        copy = ir.node("Identity", [source], name=option.id)
        copy.outputs[0].type, copy.outputs[0].shape = end.type, end.shape
        model.graph.insert_before(closing, [copy])
        source = copy.outputs[0]
    end.replace_all_uses_with(source, replace_graph_outputs=True)
    remove_dead(model.graph, closing)
    if shown:
        source.name = name
    for known in [key for key, value in values.items() if value is end]:
        values[known] = source


def _pooling(source: ir.Value, option: Option) -> list[ir.Node]:
    """Space goes first where the span averages over it, or drops its axes of size one."""
    nodes = []
    if option.pooled:
        nodes.append(ir.node("GlobalAveragePool", [source], name=f"{option.id}/pool"))
        source = nodes[0].outputs[0]
    return [*nodes, ir.node("Flatten", [source], name=f"{option.id}/flatten")]


def _operator(
    model: ir.Model, read: ir.Value, option: Option, rank: int, dtype: np.dtype, seed: int
) -> list[ir.Node]:
    geometry = option.geometry
    if option.rank is not None:
        geometry = matrix(option.rank, geometry.out_channels)
    weight = initializer(model, f"{option.id}/weight", _weight(geometry, dtype.str, seed))
    bias = initializer(
        model, f"{option.id}/bias", random_array((geometry.out_channels,), dtype.str, seed, 0.1)
    )
    if geometry.rank:
        return [conv_node(read, weight, bias, geometry, option.id)]
    inner = []
    if option.rank is not None:
        inner = [_inner(model, read, option, dtype, seed)]
        read = inner[0].outputs[0]
    if rank == 2:
        return [*inner, ir.node("Gemm", [read, weight, bias], name=option.id)]
    product = ir.node("MatMul", [read, weight], name=option.id)
    return [*inner, product, ir.node("Add", [product.outputs[0], bias], name=f"{option.id}/add")]


def _inner(model: ir.Model, read: ir.Value, option: Option, dtype: np.dtype, seed: int) -> ir.Node:
    """The first of two matrices, in x rank."""
    thin = matrix(option.geometry.in_channels, option.rank or 0)
    weight = initializer(model, f"{option.id}/inner/weight", _weight(thin, dtype.str, seed))
    node = ir.node("MatMul", [read, weight], name=f"{option.id}/inner")
    if read.shape is not None:
        node.outputs[0].shape = ir.Shape([*read.shape[:-1], thin.out_channels])
    node.outputs[0].type = read.type
    return node


def conv_node(
    read: ir.Value, weight: ir.Value, bias: ir.Value | None, geometry: Geometry, name: str
) -> ir.Node:
    attributes = {
        "kernel_shape": list(geometry.kernel),
        "strides": list(geometry.strides),
        "dilations": list(geometry.dilations),
        "pads": list(geometry.pads),
        "group": geometry.groups,
    }
    inputs = [read, weight] if bias is None else [read, weight, bias]
    return ir.node("Conv", inputs, attributes, name=name)


def _weight(geometry: Geometry, dtype: str, seed: int) -> np.ndarray:
    within = geometry.in_channels // geometry.groups
    scale = sqrt(2.0 / (within * max(prod(geometry.kernel), 1)))
    if geometry.rank:
        shape = (geometry.out_channels, within, *geometry.kernel)
    else:
        shape = (geometry.in_channels, geometry.out_channels)
    return random_array(shape, dtype, seed, scale)


@lru_cache(maxsize=16)
def random_array(shape: tuple[int, ...], dtype: str, seed: int, scale: float) -> np.ndarray:
    """Gaussian, kept away from zero so that no product is denormal."""
    drawn = np.random.default_rng(seed).standard_normal(BLOCK)
    drawn = np.copysign(np.maximum(np.abs(drawn), 1e-2), drawn) * scale
    return np.resize(drawn.astype(dtype), shape)


def initializer(model: ir.Model, name: str, array: np.ndarray) -> ir.Value:
    """Register an array under a name that is not taken yet."""
    taken, base = model.graph.initializers, name
    count = 1
    while name in taken:
        name = f"{base}_{count}"
        count += 1
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape))
    value.const_value = tensor
    model.graph.register_initializer(value)
    return value


def remove_dead(graph: ir.Graph, node: ir.Node) -> None:
    """Remove the node and whatever then feeds nothing, upstream of it."""
    stack = [node]
    while stack:
        candidate = stack.pop()
        outputs = candidate.outputs
        if candidate.graph is None or any(o.uses() or o.is_graph_output() for o in outputs):
            continue
        producers = {v.producer() for v in candidate.inputs if v is not None}
        graph.remove(candidate, safe=True)
        stack += [producer for producer in producers if producer is not None]


def drop_unused_initializers(model: ir.Model) -> None:
    initializers = model.graph.initializers
    used = {id(value) for value in model.graph.outputs}
    for name in [n for n, v in initializers.items() if not v.uses() and id(v) not in used]:
        del initializers[name]
