"""Edit the traced model by a plan: what changes the function happens here, before fine-tuning.

A *merge* keeps its operators but makes their composition exactly one convolution: every activation
between them becomes its affine stand-in a z + c, and all padding moves to the first operator
(P = sum_l p_l prod_{j<l} s_j), so that no later one pads. A *refit* replaces the span, its shortcut
included, by one convolution of a smaller kernel, a *low-rank* option by two thin matrices, and a
*drop* by the span's input, or by its shortcut alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from pipeline.activations import Statistics
from pipeline.edits.removal import identifier, to_affine
from pipeline.edits.surgery import add_parameter, detached_copy, prune_unused
from pipeline.edits.tracing import BATCH_NORM, TracedSite, reading, sites
from pipeline.mapping import Map, Option, Segment
from runtimes.errors import InputError

aten = torch.ops.aten

ADDITIONS = {aten.add.Tensor}


@dataclass(frozen=True, slots=True)
class Stencil:
    """A fitted operator: weight (out, in, *kernel) and bias (out,), float64.

    Of two matrices y = weight (inner x) + bias: weight (out, rank), inner (rank, in).
    """

    weight: Tensor
    bias: Tensor
    inner: Tensor | None = None


def blank_stencil(option: Option) -> Stencil:
    """All zero, to load fine-tuned weights into."""
    g = option.geometry
    bias = torch.zeros(g.out_channels)
    if option.rank is not None:
        inner = torch.zeros(option.rank, g.in_channels)
        return Stencil(torch.zeros(g.out_channels, option.rank), bias, inner)
    return Stencil(torch.zeros(g.out_channels, g.in_channels // g.groups, *g.kernel), bias)


def refit_weight(option: Option) -> str:
    """The name of the parameter that a refitted span gets."""
    return f"refit.{identifier(option.id)}.weight"


def group_weights(segment: Segment, option: Option) -> tuple[str, ...]:
    """The initialisers of the exported network that collapse must merge for this option."""
    if option.kind == "refit":
        return (refit_weight(option),)
    names = [o.parameter for o in segment.operators[option.first : option.last + 1]]
    if option.absorbs_shortcut and segment.shortcut and segment.shortcut.operator:
        names.append(segment.shortcut.operator.parameter)
    return tuple(names)


def carries_out(dense: fx.GraphModule, segment: Segment, option: Option) -> bool:
    """Whether the traced model has all that the option edits, in a form that these edits know."""
    known = {site.id for site in sites(dense)}
    if not known.issuperset(option.sites):
        return False
    try:
        for operator in segment.operators[option.first : option.last + 1]:
            reading(dense, operator.parameter)
        if option.kind != "merge":
            span_ends(dense, segment, option)
    except (KeyError, ValueError):
        return False
    if option.kind == "drop":
        return True
    if option.kind == "low-rank":
        span = segment.operators[option.first : option.last + 1]
        return all(reading(dense, o.parameter).target is aten.linear.default for o in span)
    geometry = option.geometry
    if geometry.begins != geometry.pads[geometry.rank :]:
        return False  # a torch convolution pads both ends alike
    if geometry.rank != 2 and (geometry.rank or option.kind == "refit"):
        return False
    return option.kind != "refit" or geometry.groups == 1


def linearise(
    dense: fx.GraphModule,
    map_: Map,
    chosen: Sequence[Option],
    *,
    statistics: Statistics,
    stencils: Mapping[str, Stencil],
) -> fx.GraphModule:
    """A copy of the traced dense model with every chosen option applied; shares no tensor with it.

    `stencils` holds the fitted operator of every chosen refit and low rank, by option id.
    """
    module = detached_copy(dense)
    traced = {site.id: site for site in sites(module)}
    for option in chosen:
        segment = map_.segment(option.segment)
        if option.kind == "drop":
            start, end = span_ends(module, segment, option)
            end.replace_all_uses_with(start)
        elif option.fitted:
            _replace_span(module, segment, option, stencils[option.id])
        else:
            _stand_in(module, segment, option, traced, statistics)
    prune_unused(module)
    return module


def _stand_in(
    module: fx.GraphModule,
    segment: Segment,
    option: Option,
    traced: Mapping[str, TracedSite],
    statistics: Statistics,
) -> None:
    for id_ in option.sites:
        site = traced[id_]
        a, c = statistics[id_].affine()
        to_affine(module, site, torch.from_numpy(a), torch.from_numpy(c))
    nodes = [
        reading(module, o.parameter) for o in segment.operators[option.first : option.last + 1]
    ]
    if option.geometry.rank == 0 or not option.geometry.padded:
        return
    first, *rest = nodes
    begins = option.geometry.begins
    if tuple(begins) != tuple(option.geometry.pads[len(begins) :]):
        raise InputError(f"option {option.id!r} pads unevenly, which a torch convolution cannot")
    _set_padding(first, list(begins))
    for node in rest:
        _set_padding(node, [0] * len(begins))


def _set_padding(node: fx.Node, padding: list[int]) -> None:
    if node.target is not aten.conv2d.default:
        raise InputError(f"cannot move the padding of {node.target}; only conv2d's")
    defaults = [None, None, None, [1, 1], [0, 0], [1, 1], 1]
    args = [*node.args, *defaults[len(node.args) :]]
    args[4] = padding
    node.args = tuple(args)


def span_ends(module: fx.GraphModule, segment: Segment, option: Option) -> tuple[fx.Node, fx.Node]:
    """The node a span reads, and the node that holds its result (batch norm, shortcut included).

    Of a drop of all that a shortcut is around, the first is what the shortcut brings.
    """
    start = reading(module, segment.operators[option.first].parameter).all_input_nodes[0]
    end = _after_norm(reading(module, segment.operators[option.last].parameter))
    if segment.closes(option):
        branch = end
        (end,) = end.users
        if end.target not in ADDITIONS:
            raise ValueError(f"expected the shortcut of {segment.id!r} to be added, not {end}")
        if option.kind == "drop":
            (start,) = (node for node in end.all_input_nodes if node is not branch)
    return start, end


def _after_norm(node: fx.Node) -> fx.Node:
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].target is BATCH_NORM else node


def _replace_span(
    module: fx.GraphModule, segment: Segment, option: Option, stencil: Stencil
) -> None:
    start, end = span_ends(module, segment, option)
    geometry, graph = option.geometry, module.graph
    weight = refit_weight(option)
    bias = weight.removesuffix("weight") + "bias"
    add_parameter(module, weight, stencil.weight.float())
    add_parameter(module, bias, stencil.bias.float())
    if stencil.inner is not None:
        _two_matrices(module, start, end, (weight, bias), stencil.inner)
        return
    with graph.inserting_after(end):
        conv = graph.call_function(aten.conv2d.default)
    with graph.inserting_before(conv):
        tensors = (start, graph.get_attr(weight), graph.get_attr(bias))
    strides, pads, dilations = geometry.strides, geometry.begins, geometry.dilations
    conv.args = (*tensors, list(strides), list(pads), list(dilations), geometry.groups)
    conv.meta = dict(end.meta)
    end.replace_all_uses_with(conv)


def _two_matrices(
    module: fx.GraphModule, start: fx.Node, end: fx.Node, outer: tuple[str, str], inner: Tensor
) -> None:
    weight, bias = outer
    first = weight.removesuffix("weight") + "inner.weight"
    add_parameter(module, first, inner.float())
    graph = module.graph
    with graph.inserting_after(end):
        result = graph.call_function(aten.linear.default)
    with graph.inserting_before(result):
        thin = graph.call_function(aten.linear.default, (start, graph.get_attr(first)))
        result.args = (thin, graph.get_attr(weight), graph.get_attr(bias))
    result.meta = dict(end.meta)
    end.replace_all_uses_with(result)
