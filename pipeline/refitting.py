"""Fit one small convolution to a whole segment by ridge least squares.

With u the patches of the segment's input (in*k*k values and a constant 1) and y its output,

    W = argmin sum |W u - y|^2 + lambda |W|^2 = (U'U + lambda I)^-1 U'Y

from sums over calibration data; lambda is relative to the mean diagonal of U'U, the constant is not
penalised. The patches of a smaller kernel about the same centre are columns of the larger one's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx
from torch.nn import functional

from pipeline.linearise import Stencil, span_ends
from pipeline.mapping import Map, Option
from pipeline.surgery import extract
from pipeline.tokens import arguments

RIDGE = 1e-4  # relative to the mean diagonal of U'U
PATCH_ELEMENTS = 2**23  # of one unfolded chunk: 32 MiB in float32


@dataclass(slots=True)
class _Normal:
    """The normal equations of one option, float64: gram (f+1, f+1), cross (f+1, out)."""

    option: Option
    gram: Tensor = field(init=False)
    cross: Tensor = field(init=False)

    def __post_init__(self) -> None:
        features = self.option.geometry.in_channels
        for size in self.option.geometry.kernel:
            features *= size
        self.gram = torch.zeros(features + 1, features + 1, dtype=torch.float64)
        self.cross = torch.zeros(
            features + 1, self.option.geometry.out_channels, dtype=torch.float64
        )

    def add(self, x: Tensor, y: Tensor) -> None:
        """x (batch, in, h, w) and y (batch, out, h', w'), in chunks of bounded memory."""
        per_image = (len(self.gram) - 1) * y.shape[2] * y.shape[3]
        chunk = max(1, PATCH_ELEMENTS // per_image)
        for xs, ys in zip(x.split(chunk), y.split(chunk), strict=True):
            u = self._patches(xs)
            self.gram += (u.T @ u).double()
            self.cross += (u.T @ ys.transpose(0, 1).flatten(1).T).double()

    def _patches(self, x: Tensor) -> Tensor:
        """(batch x positions, features + 1)."""
        g = self.option.geometry
        u = functional.unfold(
            x, g.kernel, dilation=g.dilations, padding=g.begins, stride=g.strides
        )  # (batch, features, positions)
        u = u.transpose(1, 2).flatten(0, 1)
        return torch.cat([u, u.new_ones(len(u), 1)], dim=1)

    def solve(self, ridge: float) -> Stencil:
        penalty = torch.full((len(self.gram),), ridge * float(self.gram.diagonal()[:-1].mean()))
        penalty[-1] = 0.0
        solution = torch.linalg.solve(self.gram + penalty.double().diag(), self.cross)
        g = self.option.geometry
        weight = solution[:-1].T.reshape(g.out_channels, g.in_channels, *g.kernel)
        return Stencil(weight, solution[-1])


@torch.no_grad()
def fit(
    source: fx.GraphModule,
    dense: fx.GraphModule,
    map_: Map,
    options: Sequence[Option],
    batches: Iterable[Tensor],
    *,
    ridge: float,
    step: Callable[[int], None],
) -> dict[str, Stencil]:
    """Fit every refit option: its input as `source` computes it, its output as `dense` does.

    With `source` the dense model itself each option is fitted alone; with a model whose earlier
    segments are edited already, the fit makes up for their error.
    """
    normals = [_Normal(option) for option in options]
    inputs = extract(source, [span_ends(source, map_.segment(o.segment), o)[0] for o in options])
    targets = extract(dense, [span_ends(dense, map_.segment(o.segment), o)[1] for o in options])
    for batch in batches:
        given = arguments(batch)
        for normal, x, y in zip(normals, inputs(*given), targets(*given), strict=True):
            normal.add(x, y)
        step(len(batch))
    return {n.option.id: n.solve(ridge) for n in normals}
