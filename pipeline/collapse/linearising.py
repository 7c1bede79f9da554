"""Replace activations by per-channel affine stand-ins: y = scale * z + shift, by default y = z."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pipeline.collapse.drawing import put
from pipeline.graphs.building import initializer, remove_dead
from pipeline.graphs.sites import Site
from runtimes.errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class StandIn:
    """One number per channel, or one for all."""

    scale: np.ndarray
    shift: np.ndarray


def linearise(
    model: ir.Model,
    sites: Sequence[Site],
    chosen: Sequence[str],
    stand_ins: Mapping[str, StandIn] | None = None,
) -> ir.Model:
    """A new model without the chosen activations; what only they needed goes too."""
    known = {site.id: site for site in sites}
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise InputError(
            f"no activation named {', '.join(unknown)}; there are: {', '.join(known) or 'none'}"
        )
    linear = model.clone()
    nodes = {node.name: node for node in linear.graph}
    for name in dict.fromkeys(chosen):
        site = known[name]
        _replace(linear, nodes, site, (stand_ins or {}).get(name))
    return linear


def _replace(
    model: ir.Model,
    nodes: Mapping[str | None, ir.Node],
    site: Site,
    stand_in: StandIn | None,
) -> None:
    last = nodes[site.node]
    first = nodes[site.nodes[0]]
    value = next(v for v in first.inputs if v is not None and v.name == site.input)
    if stand_in is None:
        made = [ir.node("Identity", [value], name=f"{site.id}/identity")]
    else:
        made = _affine(model, value, site, stand_in)
    put(model, made, last.outputs[0], scope=last)
    remove_dead(model.graph, last)


def _affine(model: ir.Model, value: ir.Value, site: Site, stand_in: StandIn) -> list[ir.Node]:
    rank = len(site.shape)
    dtype = (value.dtype or ir.DataType.FLOAT).numpy()
    shape = [1] * rank
    if rank:
        shape[site.channel_axis] = -1
    arrays = {"scale": stand_in.scale, "shift": stand_in.shift}
    held = {}
    for key, array in arrays.items():
        array = np.asarray(array, dtype=dtype).reshape(-1)
        if array.size not in {1, site.channels}:
            raise InputError(
                f"the stand-in for {site.id} has {array.size} numbers as {key}; "
                f"the site has {site.channels} channels: give one per channel, or one for all"
            )
        held[key] = initializer(model, f"{site.id}/{key}", array.reshape(shape if rank else ()))
    scaled = ir.node("Mul", [value, held["scale"]], name=f"{site.id}/scale")
    scaled.outputs[0].type, scaled.outputs[0].shape = value.type, value.shape
    return [scaled, ir.node("Add", [scaled.outputs[0], held["shift"]], name=f"{site.id}/shift")]
