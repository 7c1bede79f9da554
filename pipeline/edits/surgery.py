"""Small edits of a traced graph: read values in the middle, add parameters, drop what is unused."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn


def extract(module: fx.GraphModule, nodes: Sequence[fx.Node]) -> fx.GraphModule:
    """A graph that shares `module`'s tensors and returns the values of `nodes` as a tuple."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in module.graph.nodes:
        if node.op != "output":
            copies[node] = graph.node_copy(node, lambda n: copies[n])
    graph.output(tuple(copies[n] for n in nodes))
    graph.eliminate_dead_code()
    return fx.GraphModule(module, graph)


def add_parameter(module: nn.Module, name: str, value: Tensor) -> None:
    """Register a trainable parameter under a dotted name, making the containers it needs."""
    container, leaf = _container(module, name)
    container.register_parameter(leaf, nn.Parameter(value))


def add_buffer(module: nn.Module, name: str, value: Tensor) -> None:
    """Register a tensor that is saved but not trained under a dotted name, as `add_parameter`."""
    container, leaf = _container(module, name)
    container.register_buffer(leaf, value)


def _container(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    *path, leaf = name.split(".")
    for part in path:
        child = getattr(module, part, None)
        if not isinstance(child, nn.Module):
            child = nn.Module()
            module.add_module(part, child)
        module = child
    return module, leaf


def prune_unused(module: fx.GraphModule) -> None:
    """Drop nodes without effect, then parameters and buffers that no node reads any more."""
    module.graph.eliminate_dead_code()
    read = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    held = [n for n, _ in module.named_parameters()] + [n for n, _ in module.named_buffers()]
    for name in held:
        if name not in read:
            path, _, leaf = name.rpartition(".")
            delattr(module.get_submodule(path), leaf)
    module.recompile()


def detached_copy(module: fx.GraphModule) -> fx.GraphModule:
    """A copy that shares neither graph nor tensors with `module`."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    output = graph.graph_copy(module.graph, copies)
    graph.output(output)
    twin = fx.GraphModule(module, graph)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            _replace(twin, name, nn.Parameter(parameter.detach().clone()))
        for name, buffer in module.named_buffers():
            _replace(twin, name, buffer.detach().clone())
    return twin


def _replace(module: nn.Module, name: str, value: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(path), leaf, value)
