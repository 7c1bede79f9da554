"""What feeds an activation and what reads it, in the traced graph.

The layer that feeds a site is the linear operator upstream of it, through batch norm; behind an
addition it is the main branch's, the one with more operators between the addition and the fork.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from pipeline.edits.tracing import BATCH_NORM, LINEAR_AXIS, TracedSite

aten = torch.ops.aten

ADDITIONS = {aten.add.Tensor}
CONVOLUTIONS = {aten.conv1d.default, aten.conv2d.default, aten.conv3d.default}
# They pass every channel on by itself: averages, maxima, and another shape of the same values.
PASSING = {
    aten.max_pool2d.default,
    aten.avg_pool2d.default,
    aten.adaptive_avg_pool2d.default,
    aten.mean.dim,
    aten.reshape.default,
    aten.view.default,
    aten.flatten.using_ints,
    aten.clone.default,
}


@dataclass(frozen=True, slots=True)
class Norm:
    """A batch norm's affine part, float64: its output is about N(beta, gamma^2) per channel."""

    beta: Tensor
    gamma: Tensor


def norm_before(module: fx.GraphModule, site: TracedSite) -> Norm | None:
    """The batch norm that gives the site its input directly, if one does.

    Behind a shortcut's addition there is none: the sum has other moments than the norm.
    """
    node = site.node.all_input_nodes[0]
    if node.target is not BATCH_NORM:
        return None
    scale, shift, mean = (
        constant(module, a).double() if isinstance(a, fx.Node) else None for a in node.args[1:4]
    )
    assert mean is not None, f"batch norm {node} keeps no running mean"
    return Norm(
        beta=torch.zeros_like(mean) if shift is None else shift,
        gamma=torch.ones_like(mean) if scale is None else scale.abs(),
    )


def feeding(site: TracedSite) -> fx.Node | None:
    """The linear operator whose output, through batch norm and shortcuts, the site reads."""
    node = site.node.all_input_nodes[0]
    for _ in range(16):
        if node.target in LINEAR_AXIS:
            return node
        if node.target in ADDITIONS:
            branches = [a for a in node.args if isinstance(a, fx.Node)]
            node = max(branches, key=_operators_to_fork)
        elif node.target is BATCH_NORM or node.target in PASSING:
            node = node.all_input_nodes[0]
        else:
            return None
    return None


def _operators_to_fork(node: fx.Node) -> int:
    count = 0
    while node.op == "call_function" and len(node.users) == 1 and node.all_input_nodes:
        count += node.target in LINEAR_AXIS
        node = node.all_input_nodes[0]
    return count


def weight_node(operator: fx.Node) -> fx.Node:
    """The node of an operator's weight: a parameter, or one with a mask on it."""
    found = [a for a in operator.args[1:] if isinstance(a, fx.Node)]
    return found[0]


def constant(module: fx.GraphModule, node: fx.Node) -> Tensor:
    """The value of a parameter or buffer, masked where the graph masks it."""
    if node.op == "get_attr":
        path, _, leaf = str(node.target).rpartition(".")
        value = getattr(module.get_submodule(path), leaf)
        assert isinstance(value, Tensor), f"{node.target} is no tensor"
        return value.detach()
    if node.target is aten.mul.Tensor:
        first, second = (constant(module, a) for a in node.args if isinstance(a, fx.Node))
        return first * second
    raise ValueError(f"{node} is not a parameter or a masked one")


def groups_of(operator: fx.Node) -> int:
    found = operator.args[6] if len(operator.args) > 6 else 1
    assert isinstance(found, int), f"{operator} has groups that are no number"
    return found


def norm_affine(module: fx.GraphModule, norm: fx.Node) -> tuple[Tensor, Tensor]:
    """A batch norm in eval mode as factor x + offset, (channels,) float64."""
    scale, shift, mean, variance = (
        constant(module, a).double() if isinstance(a, fx.Node) else None for a in norm.args[1:5]
    )
    eps = norm.args[7]
    assert mean is not None, f"batch norm {norm} keeps no running mean"
    assert variance is not None, f"batch norm {norm} keeps no running variance"
    assert isinstance(eps, float), f"batch norm {norm} has an eps that is no number"
    factor = (variance + eps).rsqrt() * (1.0 if scale is None else scale)
    return factor, (0.0 if shift is None else shift) - mean * factor


def bypassed(module: fx.GraphModule, operator: fx.Node) -> bool:
    """Whether the output still depends on the input without this operator: a residual path.

    The first input, that is: an attention mask reaches a text's output past everything.
    """
    reached = {next(node for node in module.graph.nodes if node.op == "placeholder")}
    for node in module.graph.nodes:
        if node is operator or node.target is aten.sym_size.int:  # a size carries no values
            continue
        if any(a in reached for a in node.all_input_nodes):
            reached.add(node)
    return any(node.op == "output" and node in reached for node in module.graph.nodes)


def gain(module: fx.GraphModule, site: TracedSite) -> Tensor:
    """Per neuron, how much of its energy the operators that read it pass on: (neurons,) float64.

    sum over readers of ||W[:, i]||^2, W with what scales it on the way; 1 for a shortcut.
    """
    channels = int(site.node.meta["val"].shape[site.axis])
    total = torch.zeros(channels, dtype=torch.float64)
    for reader, source, scale in _readers(module, site.node, torch.ones(channels).double()):
        total += _columns(module, reader, source, channels) * scale**2
    return total


def _readers(
    module: fx.GraphModule, source: fx.Node, scale: Tensor
) -> Iterator[tuple[fx.Node, fx.Node, Tensor]]:
    for user in source.users:
        if user.target in PASSING:
            yield from _readers(module, user, scale)
        elif user.target is BATCH_NORM and len(scale) == int(user.meta["val"].shape[1]):
            factor, _ = norm_affine(module, user)
            yield from _readers(module, user, scale * factor)
        elif user.target is not aten.sym_size.int:
            yield user, source, scale


def _columns(
    module: fx.GraphModule, reader: fx.Node, source: fx.Node, channels: int
) -> Tensor | float:
    """||W[:, i]||^2 of a reader, or 1 where it is no operator with weights of its own."""
    if reader.target not in {*CONVOLUTIONS, aten.linear.default} or reader.args[0] is not source:
        return 1.0
    weight = constant(module, weight_node(reader)).double()
    squares = weight.pow(2)
    if weight.dim() > 2:
        squares = squares.flatten(2).sum(2)  # (out, in / groups)
    columns = squares.view(groups_of(reader), -1, squares.shape[1]).sum(1).flatten()
    return columns.view(channels, -1).sum(1)  # a flattened map: many columns of one channel
