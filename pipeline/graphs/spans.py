"""The single operator that a span of a segment could become, or why it cannot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.graphs.geometry import Geometry, compose_all, matrix, refit
from pipeline.graphs.operators import Operator

LOW_RANK_PARTS = (4, 8, 16)  # of the smaller side of a matrix


def span_geometry(operators: Sequence[Operator], glue: Sequence[Sequence[str]]) -> Geometry | str:
    """`glue[i]` is what stands between operators i and i + 1.

    Space is averaged over, or dropped, only behind operators that work on each position alone:
    mean(W x + b) = W mean(x) + b.
    """
    crossing = [i for i, kinds in enumerate(glue) if {"pool", "flatten"} & set(kinds)]
    if not crossing:
        ranks = {operator.geometry.rank for operator in operators}
        if len(ranks) > 1:
            return f"{_names(operators)} mix a convolution and a matrix"
        return compose_all([operator.geometry for operator in operators])
    for operator in operators[: crossing[-1] + 1]:
        if operator.geometry.rank and not operator.geometry.pointwise:
            return f"{operator.node} is {operator.geometry}, not pointwise, before space is dropped"
    convolutions = [o for o in operators[: crossing[-1] + 1] if o.geometry.rank]
    if len(convolutions) > 1:
        return f"{_names(convolutions)} stand before a mean, behind which one of them can go"
    if any(operator.geometry.rank for operator in operators[crossing[-1] + 1 :]):
        return f"{_names(operators)} mix a matrix and a convolution"
    return matrix(operators[0].geometry.in_channels, operators[-1].geometry.out_channels)


def refit_geometries(merged: Geometry, largest: int) -> Iterator[Geometry]:
    """Every smaller kernel that the geometry allows, of at most `largest` taps on an axis."""
    for kernel in range(min(max(merged.kernel, default=1) - 1, largest), 0, -1):
        smaller = refit(merged, kernel)
        if smaller is not None:
            yield smaller


def low_ranks(merged: Geometry) -> tuple[int, ...]:
    """Ranks at which two matrices, in x r and r x out, are smaller than the one; none for kernels.

    A quarter, an eighth and a sixteenth of the full rank: at half of it nothing is saved.
    """
    if merged.rank:
        return ()
    full = min(merged.in_channels, merged.out_channels)
    ranks = dict.fromkeys(full // part for part in LOW_RANK_PARTS)
    within = merged.in_channels + merged.out_channels
    return tuple(r for r in ranks if r and r * within < merged.parameters)


def _names(operators: Sequence[Operator]) -> str:
    return " and ".join(operator.node for operator in operators)
