"""An operator without weights gives a constant: carry it on to where the shortcut adds it.

Per channel, and as it is away from the borders (a later operator that pads would see the constant
end there), so this is an edit before fine-tuning. The published code keeps such layers, or forgets
the constant psi(shift) that they put out.

    y = W 0 + b;   batch norm, activation and the next operator are applied to y itself
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from pipeline.edits.neighbours import (
    ADDITIONS,
    CONVOLUTIONS,
    constant,
    groups_of,
    norm_affine,
    weight_node,
)
from pipeline.edits.surgery import add_parameter
from pipeline.edits.tracing import BATCH_NORM, KINDS, LINEAR_AXIS

aten = torch.ops.aten


@torch.no_grad()
def drop_emptied(module: fx.GraphModule) -> None:
    """In place: every all-zero operator whose constant reaches an addition, with what it passes."""
    for node in list(module.graph.nodes):
        if node.target not in LINEAR_AXIS or node.target is aten.matmul.default:
            continue
        if not node.users or constant(module, weight_node(node)).any():
            continue
        last, value = _follow(module, node, _bias(module, node))
        if all(user.target in ADDITIONS for user in last.users):
            _put(module, last, value)
    module.graph.eliminate_dead_code()
    module.recompile()


def _follow(module: fx.GraphModule, node: fx.Node, value: Tensor) -> tuple[fx.Node, Tensor]:
    """The last node that is still a constant per channel, and that constant (channels,)."""
    while len(node.users) == 1:
        (user,) = node.users
        then = _applied(module, user, node, value)
        if then is None:
            break
        node, value = user, then
    return node, value


def _applied(
    module: fx.GraphModule, user: fx.Node, source: fx.Node, value: Tensor
) -> Tensor | None:
    if user.target is BATCH_NORM:
        factor, offset = norm_affine(module, user)
        return value * factor + offset
    if user.target in CONVOLUTIONS or user.target is aten.linear.default:
        weight = constant(module, weight_node(user)).double()
        taps = weight.flatten(2).sum(2) if weight.dim() > 2 else weight  # (out, in / groups)
        groups = groups_of(user)
        blocks = taps.view(groups, -1, taps.shape[1])
        return (blocks @ value.view(groups, -1, 1)).flatten() + _bias(module, user)
    if user.target in KINDS:
        arguments = [value if a is source else a for a in user.args]
        if any(isinstance(a, fx.Node) for a in arguments):
            return None
        assert callable(user.target), f"{user} is an operator"
        return user.target(*arguments, **user.kwargs)
    if user.target is aten.mul.Tensor:  # a gate
        other = next(a for a in user.all_input_nodes if a is not source)
        if other.op == "get_attr":
            return value * constant(module, other).flatten()
    return None


def _bias(module: fx.GraphModule, operator: fx.Node) -> Tensor:
    weight = constant(module, weight_node(operator)).double()
    tensors = [a for a in operator.args[1:] if isinstance(a, fx.Node)]
    return (
        constant(module, tensors[1]).double() if len(tensors) > 1 else weight.new_zeros(len(weight))
    )


def _put(module: fx.GraphModule, node: fx.Node, value: Tensor) -> None:
    """A trained parameter, which the additions broadcast, in place of the node."""
    rank = node.meta["val"].dim()
    spatial = rank - 2 if rank > 3 else 0  # a token model's channels come last
    name = f"emptied.{node.name}.constant"
    add_parameter(module, name, value.float().reshape(-1, *[1] * spatial))
    with module.graph.inserting_before(node):
        carried = module.graph.get_attr(name)
    carried.meta = dict(node.meta)
    node.replace_all_uses_with(carried)
