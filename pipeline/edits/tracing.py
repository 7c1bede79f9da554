"""The torch model as one functional graph, in which every activation call-site is a node.

`torch.export` sees what module hooks cannot: a module called twice is two nodes, `F.relu` is a node
as well, and an in-place activation is made functional, so that its input is the pre-activation.
The ONNX file is exported from the same graph, hence its sites carry the same ids.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from pipeline.edits.surgery import detached_copy
from pipeline.networks.tokens import arguments, is_text
from runtimes.errors import InputError

aten = torch.ops.aten

KINDS: dict[Any, str] = {
    aten.relu.default: "relu",
    aten.hardtanh.default: "relu6",
    aten.relu6.default: "relu6",
    aten.clamp.default: "clip",
    aten.leaky_relu.default: "leaky_relu",
    aten.prelu.default: "prelu",
    aten.gelu.default: "gelu",
    aten.silu.default: "silu",
    aten.hardswish.default: "hardswish",
    aten.hardsigmoid.default: "hardsigmoid",
    aten.elu.default: "elu",
    aten.tanh.default: "tanh",
    aten.softplus.default: "softplus",
    aten.mish.default: "mish",
}
LINEAR_AXIS: dict[Any, int] = {
    aten.conv1d.default: 1,
    aten.conv2d.default: 1,
    aten.conv3d.default: 1,
    aten.convolution.default: 1,
    aten.linear.default: -1,
    aten.addmm.default: -1,
    aten.matmul.default: -1,
}
BATCH_NORM = aten.batch_norm.default
_FROZEN_BATCH_NORM = aten._native_batch_norm_legit_no_training.default


@dataclass(frozen=True, slots=True)
class TracedSite:
    """An activation call-site: its node, and the axis of its input that counts neurons."""

    id: str
    kind: str
    node: fx.Node
    axis: int


def trace(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """Return `model` (in eval mode) as a functional graph that shares no tensor with it.

    `example` is (batch, ...) with batch >= 2; the batch axis stays dynamic, and a text's length.
    """
    dynamic: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if is_text(example):
        dynamic[1] = torch.export.Dim.DYNAMIC  # up to what the position embeddings allow
    inputs = arguments(example)
    training = model.training
    model.eval()
    try:
        program = torch.export.export(
            model, inputs, dynamic_shapes=tuple(dynamic for _ in inputs), strict=False
        )
    except Exception as e:  # torch.export fails with errors of many types
        raise InputError(
            f"torch.export cannot trace {type(model).__name__}: {e}; make its forward free of "
            "data-dependent Python control flow and its batch axis dynamic"
        ) from e
    finally:
        model.train(training)
    graph_module = program.run_decompositions({}).module(check_guards=False)
    if not isinstance(graph_module, fx.GraphModule):
        raise TypeError(f"expected a GraphModule from torch.export, got {type(graph_module)}")
    plain = detached_copy(_with_plain_output(graph_module))
    _thaw_batch_norms(plain)
    for node in plain.graph.nodes:
        if node.target is aten.view.default:  # holds for one memory format only
            node.target = aten.reshape.default
    plain.recompile()
    plain.eval()
    return plain


def _with_plain_output(module: fx.GraphModule) -> fx.GraphModule:
    """torch.export returns a flattened pytree; the traced model returns its one tensor."""
    (output,) = (node for node in module.graph.nodes if node.op == "output")
    returned = output.args[0]
    if not isinstance(returned, Sequence) or len(returned) != 1:
        raise InputError("the model must return one tensor (its logits)")
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in module.graph.nodes:
        if node.op != "output":
            copies[node] = graph.node_copy(node, lambda n: copies[n])
    graph.output(copies[returned[0]])
    return fx.GraphModule(module, graph)


def _thaw_batch_norms(module: fx.GraphModule) -> None:
    """Replace the frozen batch norm, which returns a triple, by the one with a training flag."""
    graph = module.graph
    for node in list(graph.nodes):
        if node.target is not _FROZEN_BATCH_NORM:
            continue
        *tensors, momentum, eps = node.args
        with graph.inserting_before(node):
            norm = graph.call_function(BATCH_NORM, (*tensors, False, momentum, eps, False))
        norm.meta = {**node.meta, "val": node.meta["val"][0]}
        for item in list(node.users):
            if item.target is not operator.getitem or item.args[1] != 0:
                raise InputError(f"the model reads batch statistics of {module_path(node)!r}")
            item.replace_all_uses_with(norm)
            graph.erase_node(item)
        graph.erase_node(node)
    module.recompile()


def set_training(module: fx.GraphModule, training: bool) -> None:
    """Batch norms use batch statistics (and update the running ones) while training."""
    for node in module.graph.nodes:
        if node.target is BATCH_NORM:
            node.args = (*node.args[:5], training, *node.args[6:])
    module.recompile()
    module.train(training)


def move(module: nn.Module, device: torch.device) -> None:
    """Tensors to the device, and what a traced graph makes in the middle, such as positions."""
    module.to(device)
    if isinstance(module, fx.GraphModule):
        for node in module.graph.nodes:
            if "device" in node.kwargs:
                node.update_kwarg("device", device)
        module.recompile()


def module_path(node: fx.Node) -> str:
    """The path of the module whose forward called this node ('' is the model itself)."""
    stack = node.meta.get("nn_module_stack")
    return list(stack.values())[-1][0] if stack else ""


def sites(module: fx.GraphModule) -> list[TracedSite]:
    """All activation call-sites in graph order; ids are `<module path>#<call index>`.

    The index counts the calls of the traced model: removing one site does not rename the next.
    """
    calls: Counter[str] = Counter()
    found = []
    for node in module.graph.nodes:
        kind = KINDS.get(node.target)
        if kind is None:
            continue
        path = module_path(node)
        id_ = node.meta.setdefault("site", f"{path}#{calls[path]}")
        found.append(TracedSite(id_, kind, node, _neuron_axis(node)))
        calls[path] += 1
    return found


def _neuron_axis(site: fx.Node) -> int:
    """Channels come first after a convolution, last after a linear layer."""
    node: fx.Node | None = site
    while node is not None:
        axis = LINEAR_AXIS.get(node.target)
        if axis is not None:
            return axis
        node = next((a for a in node.args if isinstance(a, fx.Node) and a.op != "get_attr"), None)
    return 1


def reading(module: fx.GraphModule, weight: str) -> fx.Node:
    """The one linear operator whose weight is the parameter named `weight`."""
    found = [
        node
        for node in module.graph.nodes
        if node.target in LINEAR_AXIS
        and any(
            isinstance(a, fx.Node) and a.op == "get_attr" and a.target == weight for a in node.args
        )
    ]
    if len(found) != 1:
        raise KeyError(f"{len(found)} linear operators of the traced model read {weight!r}, not 1")
    return found[0]
