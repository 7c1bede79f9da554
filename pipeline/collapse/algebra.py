"""Two linear operators in a row, or side by side, as one; pure arithmetic in float64.

    conv2(conv1(x)):  W[o,i,u] = sum_m W2[o,m,v] W1[m,i,t] over (t, v) with d1*t + s1*d2*v = g*u
                      b[o]     = b2[o] + sum_{m,v} W2[o,m,v] b1[m]
    x + conv(x):      a Dirac is added at tap P = begin padding / dilation

Exact while conv2 pads nothing, or conv1 reads single pixels and its bias travels in a channel of
ones (`with_ones`). Weights have the layout (out, in / groups, *kernel), matrices (out, in).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from pipeline.graphs.geometry import Geometry, compose, with_shortcut


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """A Conv or a matrix: y = weight * x + bias."""

    geometry: Geometry
    weight: np.ndarray
    bias: np.ndarray | None


def merge(first: Linear, second: Linear) -> Linear:
    """`second` after `first`; where `second` pads, its padding is moved to the front."""
    geometry = compose(first.geometry, second.geometry)
    bias = second.bias
    if first.bias is not None:
        taps = second.weight.reshape(*second.weight.shape[:2], -1).sum(-1)
        carried = _grouped_product(taps, first.bias, second.geometry.groups)
        bias = carried if bias is None else bias + carried
    if not geometry.rank:
        return Linear(geometry, second.weight @ first.weight, bias)
    return Linear(geometry, _merge_kernels(first, second, geometry), bias)


def merge_all(chain: Sequence[Linear]) -> Linear:
    """The whole chain; matrices from the end that leaves the smaller products."""
    chain = list(chain)
    ends = chain[0].geometry, chain[-1].geometry
    backwards = not ends[0].rank and ends[1].out_channels < ends[0].in_channels
    while len(chain) > 1:
        at = len(chain) - 2 if backwards else 0
        chain[at : at + 2] = [merge(chain[at], chain[at + 1])]
    return chain[0]


def _grouped_product(taps: np.ndarray, vector: np.ndarray, groups: int) -> np.ndarray:
    """(out, in / groups) times (in,), group by group."""
    blocks = taps.reshape(groups, -1, taps.shape[1])
    return np.einsum("goi,gi->go", blocks, vector.reshape(groups, -1)).reshape(-1)


def _merge_kernels(first: Linear, second: Linear, merged: Geometry) -> np.ndarray:
    one, two = first.geometry, second.geometry
    within = merged.in_channels // merged.groups
    weight = np.zeros((merged.out_channels, within, *merged.kernel))
    multiply = _tap_product(first, second, merged.groups)
    for v in product(*map(range, two.kernel)):
        where: list[slice] = [slice(None), slice(None)]
        for axis, tap in enumerate(v):
            start = one.strides[axis] * two.dilations[axis] * tap // merged.dilations[axis]
            step = max(one.dilations[axis] // merged.dilations[axis], 1)
            where.append(slice(start, start + step * (one.kernel[axis] - 1) + 1, step))
        weight[tuple(where)] += multiply(v)
    return weight


def _tap_product(first: Linear, second: Linear, groups: int):
    """`multiply(v)`: tap v of the second kernel times the whole first one, in merged groups."""
    one, two = first.geometry, second.geometry
    ones = (1,) * one.rank
    if _depthwise(two):
        return lambda v: second.weight[(slice(None), 0, *v)].reshape(-1, 1, *ones) * first.weight
    if _depthwise(one):
        channels = first.weight.reshape(two.groups, 1, -1, *one.kernel)
        spread = np.broadcast_to(
            channels, (two.groups, two.out_channels // two.groups, *channels.shape[2:])
        ).reshape(two.out_channels, -1, *one.kernel)
        return lambda v: (
            second.weight[(slice(None), slice(None), *v)].reshape(*second.weight.shape[:2], *ones)
            * spread
        )
    wide_one = spread_groups(first.weight, one.groups, groups)
    wide_two = spread_groups(second.weight, two.groups, groups)
    middle, within = one.out_channels // groups, one.in_channels // groups
    flat_one = wide_one.reshape(groups, middle, -1)

    def multiply(v: tuple[int, ...]) -> np.ndarray:
        left = wide_two[(slice(None), slice(None), *v)].reshape(groups, -1, middle)
        return (left @ flat_one).reshape(two.out_channels, within, *one.kernel)

    return multiply


def _depthwise(geometry: Geometry) -> bool:
    return geometry.groups == geometry.in_channels == geometry.out_channels > 1


def spread_groups(weight: np.ndarray, groups: int, fewer: int) -> np.ndarray:
    """The same operator written with fewer groups: block-diagonal within each."""
    if groups == fewer:
        return weight
    out, within, *kernel = weight.shape
    ratio = groups // fewer
    wide = np.zeros((fewer, ratio, out // groups, ratio, within, *kernel))
    blocks = weight.reshape(fewer, ratio, out // groups, within, *kernel)
    for index in range(ratio):
        wide[:, index, :, index] = blocks[:, index]
    return wide.reshape(out, ratio * within, *kernel)


def add_shortcut(branch: Linear, shortcut: Linear | None, tap: Sequence[int]) -> Linear:
    """`branch(x) + shortcut(x)`, the shortcut a 1x1 (or a matrix), None the identity."""
    geometry = with_shortcut(branch.geometry, shortcut.geometry if shortcut else None)
    weight = spread_groups(branch.weight, branch.geometry.groups, geometry.groups).copy()
    out, within = weight.shape[:2]
    if shortcut is None:
        rows = np.arange(out)
        # identity: output o reads input o, which is o modulo the group's width within its group
        weight[(rows, rows % within, *tap)] += 1.0
        return Linear(geometry, weight, branch.bias)
    wide = spread_groups(shortcut.weight, shortcut.geometry.groups, geometry.groups)
    wide = wide.reshape(out, -1)  # one column less than the branch has, if that has its ones
    weight[(slice(None), slice(wide.shape[1]), *tap)] += wide
    if shortcut.bias is None or branch.bias is None:
        bias = branch.bias if shortcut.bias is None else shortcut.bias
    else:
        bias = branch.bias + shortcut.bias
    return Linear(geometry, weight, bias)


def scale_output(operator: Linear, scale: np.ndarray, shift: np.ndarray | None) -> Linear:
    """scale * operator(x) + shift, per channel."""
    column = scale.reshape(-1, *(1,) * (operator.weight.ndim - 1))
    bias = None if operator.bias is None else operator.bias * scale
    if shift is not None:
        bias = np.broadcast_to(shift, (operator.geometry.out_channels,)) + (
            0.0 if bias is None else bias
        )
    return Linear(operator.geometry, operator.weight * column, bias)


def scale_input(operator: Linear, scale: np.ndarray, shift: np.ndarray | None) -> Linear:
    """operator(scale * x + shift), per channel; the shift is exact where nothing is padded."""
    geometry = operator.geometry
    channels = (geometry.in_channels,)
    bias = operator.bias
    if shift is not None:
        taps = operator.weight.reshape(*operator.weight.shape[:2], -1).sum(-1)
        carried = _grouped_product(taps, np.broadcast_to(shift, channels), geometry.groups)
        bias = carried if bias is None else bias + carried
    rows = np.broadcast_to(scale, channels).reshape(geometry.groups, -1)
    rows = np.repeat(rows, geometry.out_channels // geometry.groups, axis=0)
    weight = operator.weight * rows.reshape(*rows.shape, *(1,) * geometry.rank)
    return Linear(geometry, weight, bias)


def with_ones(pointwise: Linear) -> Linear:
    """The bias as the weight of one more input channel, which the caller fills with ones.

    Zero padding of that channel then switches the bias off outside the image, which is what makes
    a padded successor exact.
    """
    geometry = pointwise.geometry
    weight = spread_groups(pointwise.weight, geometry.groups, 1)
    out = geometry.out_channels
    bias = np.zeros(out) if pointwise.bias is None else pointwise.bias
    column = bias.reshape(out, 1, *(1,) * geometry.rank)
    wider = replace(geometry, groups=1, in_channels=geometry.in_channels + 1)
    return Linear(wider, np.concatenate([weight, column], axis=1), None)


def split_ones(augmented: Linear, size: Sequence[int]) -> tuple[Linear, np.ndarray]:
    """The operator without its channel of ones, and that channel's constant map for an input size.

    map[o, q] = bias[o] + sum over taps v inside the image, W[o, ones, v]
    """
    geometry = augmented.geometry
    ones = augmented.weight[:, -1]  # (out, *kernel)
    for axis, length in enumerate(size):
        inside = inside_taps(geometry, axis, length).astype(float)  # (positions, taps)
        # contract the leading kernel axis, append the axis of positions: after all, (out, *q)
        ones = np.tensordot(ones, inside, axes=([1], [1]))
    if augmented.bias is not None:
        ones = ones + augmented.bias.reshape(-1, *(1,) * geometry.rank)
    narrow = replace(geometry, in_channels=geometry.in_channels - 1)
    return Linear(narrow, augmented.weight[:, :-1], None), ones


def inside_taps(geometry: Geometry, axis: int, length: int) -> np.ndarray:
    """(output positions, taps): whether a tap reads the image, not its padding."""
    stride, dilation = geometry.strides[axis], geometry.dilations[axis]
    begin, end = geometry.pads[axis], geometry.pads[axis + geometry.rank]
    reach = dilation * (geometry.kernel[axis] - 1) + 1
    positions = (length + begin + end - reach) // stride + 1
    read = stride * np.arange(positions)[:, None] - begin
    read = read + dilation * np.arange(geometry.kernel[axis])
    return (read >= 0) & (read < length)
