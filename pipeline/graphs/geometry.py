"""The shape of a linear operator, and of two of them in a row.

Per axis, a convolution of kernel K, stride s, dilation d and padding p reads `d*t` for tap t. Two
in a row read `d1*t + s1*d2*v`, hence

    dilation g = gcd of the steps in use        kernel K = (d1*(K1-1) + s1*d2*(K2-1)) / g + 1
    stride s1*s2     padding p1 + s1*p2     groups gcd(g1, g2)

The output size is preserved exactly (nested floors), with asymmetric padding too. The values are
preserved where the second does not pad; moving its padding to the first changes a border ring.
A matrix is a geometry with an empty kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import gcd, prod


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a Conv or a matrix does to shapes; `pads` has all begins, then all ends, as in ONNX."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    groups: int
    in_channels: int
    out_channels: int

    @property
    def rank(self) -> int:
        """Spatial axes: 0 for a matrix."""
        return len(self.kernel)

    @property
    def padded(self) -> bool:
        return any(self.pads)

    @property
    def pointwise(self) -> bool:
        """Reads exactly one position per output position, and every position."""
        ones = all(k == 1 for k in self.kernel) and all(s == 1 for s in self.strides)
        return ones and not self.padded

    @property
    def begins(self) -> tuple[int, ...]:
        return self.pads[: self.rank]

    def __str__(self) -> str:
        return "x".join(map(str, self.kernel)) or "matrix"

    def macs(self, positions: int) -> int:
        """Multiply-accumulates to produce `positions` output positions."""
        return positions * self.out_channels * (self.in_channels // self.groups) * prod(self.kernel)

    @property
    def parameters(self) -> int:
        """Elements of the weight."""
        return self.macs(1)


def matrix(in_channels: int, out_channels: int) -> Geometry:
    return Geometry((), (), (), (), 1, in_channels, out_channels)


def compose(first: Geometry, second: Geometry) -> Geometry:
    """The one operator that does `second` after `first`, its padding moved to the front."""
    if first.rank != second.rank or first.out_channels != second.in_channels:
        raise ValueError(f"{first} cannot feed {second}")
    kernel, dilations = [], []
    for axis in range(first.rank):
        size, dilation = _tap_grid(first, second, axis)
        kernel.append(size)
        dilations.append(dilation)
    strides = tuple(a * b for a, b in zip(first.strides, second.strides, strict=True))
    pads = tuple(
        p1 + s1 * p2 for p1, p2, s1 in zip(first.pads, second.pads, first.strides * 2, strict=True)
    )
    return Geometry(
        kernel=tuple(kernel),
        strides=strides,
        dilations=tuple(dilations),
        pads=pads,
        groups=gcd(first.groups, second.groups),
        in_channels=first.in_channels,
        out_channels=second.out_channels,
    )


def _tap_grid(first: Geometry, second: Geometry, axis: int) -> tuple[int, int]:
    """Kernel size and dilation on one axis."""
    steps = [
        step
        for step, size in (
            (first.dilations[axis], first.kernel[axis]),
            (first.strides[axis] * second.dilations[axis], second.kernel[axis]),
        )
        if size > 1
    ]
    dilation = gcd(*steps) if steps else 1
    reach = first.dilations[axis] * (first.kernel[axis] - 1)
    reach += first.strides[axis] * second.dilations[axis] * (second.kernel[axis] - 1)
    return reach // dilation + 1, dilation


def compose_all(chain: Sequence[Geometry]) -> Geometry:
    merged = chain[0]
    for following in chain[1:]:
        merged = compose(merged, following)
    return merged


def refit(merged: Geometry, kernel: int) -> Geometry | None:
    """`merged` with no axis of more than `kernel` taps, about the same centre; None if impossible.

    The same strides and output size: (K - k) / 2 taps and as much padding go on either side.
    """
    if max(merged.kernel, default=0) <= kernel:
        return None
    sizes, trims = [], []
    for size, dilation in zip(merged.kernel, merged.dilations, strict=True):
        sizes.append(min(size, kernel))
        if (size - sizes[-1]) % 2:
            return None
        trims.append(dilation * (size - sizes[-1]) // 2)
    pads = tuple(p - trim for p, trim in zip(merged.pads, trims * 2, strict=True))
    if min(pads) < 0:
        return None
    dilations = merged.dilations if kernel > 1 else (1,) * merged.rank
    return replace(merged, kernel=tuple(sizes), dilations=dilations, pads=pads)


def keeps_shape(geometry: Geometry) -> bool:
    """Whether the output has the shape of the input, whatever its size."""
    begins, ends = geometry.begins, geometry.pads[geometry.rank :]
    axes = zip(geometry.kernel, geometry.dilations, geometry.strides, begins, ends, strict=True)
    same = all(s == 1 and b + e == d * (k - 1) for k, d, s, b, e in axes)
    return same and geometry.in_channels == geometry.out_channels


def shortcut_tap(branch: Geometry, shortcut: Geometry | None) -> tuple[int, ...] | str:
    """The tap of `branch` under which the shortcut's own tap lies, or why there is none.

    `shortcut` None is the identity: a Dirac at tap P = begin padding / dilation, not at K // 2.
    """
    strides = shortcut.strides if shortcut else (1,) * branch.rank
    if branch.strides != strides:
        return f"the branch has stride {list(branch.strides)}, its shortcut {list(strides)}"
    if shortcut and (any(k != 1 for k in shortcut.kernel) or shortcut.padded):
        return f"the shortcut is {shortcut} with padding {list(shortcut.pads)}, not a plain 1x1"
    taps = []
    axes = zip(branch.begins, branch.dilations, branch.kernel, strict=True)
    for begin, dilation, size in axes:
        if begin % dilation or begin // dilation >= size:
            return f"no tap of the {branch} kernel lies under padding {list(branch.pads)}"
        taps.append(begin // dilation)
    return tuple(taps)


def with_shortcut(branch: Geometry, shortcut: Geometry | None) -> Geometry:
    """The branch after the shortcut was added into its kernel; a denser shortcut widens groups."""
    return replace(branch, groups=gcd(branch.groups, shortcut.groups)) if shortcut else branch
