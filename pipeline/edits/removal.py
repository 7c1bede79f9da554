"""Edits that take an activation out of the traced graph, in place, and masks that stay.

A gate is a buffer, not a parameter: a channel that was switched off cannot revive in training. A
masked weight is multiplied by its mask in the graph itself, so that no optimiser undoes it.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from pipeline.edits.neighbours import weight_node
from pipeline.edits.surgery import add_buffer, add_parameter
from pipeline.edits.tracing import TracedSite

aten = torch.ops.aten


def to_identity(module: fx.GraphModule, site: TracedSite) -> None:
    """psi(z) becomes z."""
    site.node.replace_all_uses_with(site.node.all_input_nodes[0])
    module.graph.erase_node(site.node)


def to_gate(module: fx.GraphModule, site: TracedSite, on: Tensor) -> None:
    """psi(z) becomes z where `on` (neurons,) is true and 0 elsewhere, for ever."""
    name = f"gate.{identifier(site.id)}.on"
    add_buffer(module, name, along(site, on.float()))
    graph, node = module.graph, site.node
    with graph.inserting_before(node):
        gate = graph.get_attr(name)
        gated = graph.call_function(aten.mul.Tensor, (node.all_input_nodes[0], gate))
    gated.meta = without_site(node)
    node.replace_all_uses_with(gated)
    graph.erase_node(node)


def to_affine(module: fx.GraphModule, site: TracedSite, a: Tensor, c: Tensor) -> None:
    """psi(z) becomes a z + c with a and c (neurons,) trained from there on."""
    name = f"standin.{identifier(site.id)}"
    add_parameter(module, f"{name}.scale", along(site, a.float()))
    add_parameter(module, f"{name}.shift", along(site, c.float()))
    graph, node = module.graph, site.node
    with graph.inserting_before(node):
        scale = graph.get_attr(f"{name}.scale")
        shift = graph.get_attr(f"{name}.shift")
        scaled = graph.call_function(aten.mul.Tensor, (node.all_input_nodes[0], scale))
        shifted = graph.call_function(aten.add.Tensor, (scaled, shift))
    for new in (scaled, shifted):
        new.meta = without_site(node)
    node.replace_all_uses_with(shifted)
    graph.erase_node(node)


def mask_weight(module: fx.GraphModule, operator: fx.Node, mask: Tensor) -> None:
    """The operator's weight times `mask` from now on; a second mask replaces the first."""
    weight = weight_node(operator)
    graph = module.graph
    if weight.target is aten.mul.Tensor:
        old = weight.args[1]
        assert isinstance(old, fx.Node), f"{weight} multiplies by a number"
        path, _, leaf = str(old.target).rpartition(".")
        getattr(module.get_submodule(path), leaf).copy_(mask)
        return
    name = f"mask.{identifier(str(weight.target))}.kept"
    add_buffer(module, name, mask.float())
    with graph.inserting_before(operator):
        kept = graph.get_attr(name)
        masked = graph.call_function(aten.mul.Tensor, (weight, kept))
    masked.meta = dict(weight.meta)
    operator.replace_input_with(weight, masked)


@torch.no_grad()
def bake_masks(module: fx.GraphModule) -> None:
    """Multiply every mask into its weight and take it out of the graph, before an export."""
    for node in list(module.graph.nodes):
        if node.target is not aten.mul.Tensor or not all(
            isinstance(a, fx.Node) and a.op == "get_attr" for a in node.args
        ):
            continue
        weight, kept = node.all_input_nodes
        parameter = module.get_parameter(str(weight.target))
        parameter.mul_(module.get_buffer(str(kept.target)))
        node.replace_all_uses_with(weight)
        module.graph.erase_node(node)
    module.recompile()


def along(site: TracedSite, values: Tensor) -> Tensor:
    """(neurons,) in the shape that broadcasts along the site's axis."""
    rank = site.node.meta["val"].dim()
    axis = site.axis % rank
    return values.reshape([-1 if d == axis else 1 for d in range(axis, rank)])


def without_site(node: fx.Node) -> dict[str, object]:
    """A node's metadata for what takes its place: no activation any more."""
    return {key: value for key, value in node.meta.items() if key != "site"}


def identifier(id_: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in id_)
