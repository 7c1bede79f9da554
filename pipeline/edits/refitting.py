"""Fit one small operator to a whole segment by ridge least squares.

With u the patches of the segment's input (in*k*k values and a constant 1) and y its output,

    W = argmin sum |W u - y|^2 + lambda |W|^2 = (U'U + lambda I)^-1 U'Y

from sums over calibration data; lambda is relative to the mean diagonal of U'U, the constant is not
penalised. The patches of a smaller kernel about the same centre are columns of the larger one's.

Of a matrix of rank r, M = A B, the best is found in closed form too (reduced-rank regression).
Taken about the means, which the constant serves, and with G = U'U + lambda I and C = U'Y,

    |Y - U M|^2 + lambda |M|^2 = const + |G^(1/2) (M - W)|^2        W = G^-1 C, of full rank

so M is the best approximation of rank r in the norm of G. By Eckart and Young G^(1/2) M keeps the r
largest singular values of G^(1/2) W, whose right singular vectors V are the eigenvectors of
W'G W = W'C: M = W V V', hence A = W V (in x r), B = V' (r x out), and the error that the rank adds
is the sum of the eigenvalues left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx
from torch.nn import functional

from pipeline.edits.surgery import extract
from pipeline.linearise import Stencil, span_ends
from pipeline.mapping import Map, Option
from pipeline.networks.tokens import arguments

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
        """x (batch, in, h, w) and y (batch, out, h', w'), in chunks of bounded memory.

        Of matrices x (batch, ..., in) and y (batch, ..., out).
        """
        positions = y[0].numel() // self.option.geometry.out_channels
        per_image = (len(self.gram) - 1) * positions
        chunk = max(1, PATCH_ELEMENTS // per_image)
        for xs, ys in zip(x.split(chunk), y.split(chunk), strict=True):
            u = self._patches(xs)
            channels = 1 if self.option.rank is None else -1
            self.gram += (u.T @ u).double()
            self.cross += (u.T @ ys.movedim(channels, 0).flatten(1).T).double()

    def _patches(self, x: Tensor) -> Tensor:
        """(batch x positions, features + 1)."""
        g = self.option.geometry
        if self.option.rank is not None:
            u = x.flatten(0, -2)
        else:
            u = functional.unfold(
                x, g.kernel, dilation=g.dilations, padding=g.begins, stride=g.strides
            )  # (batch, features, positions)
            u = u.transpose(1, 2).flatten(0, 1)
        return torch.cat([u, u.new_ones(len(u), 1)], dim=1)

    def solve(self, ridge: float) -> Stencil:
        penalty = torch.full((len(self.gram),), ridge * float(self.gram.diagonal()[:-1].mean()))
        penalty[-1] = 0.0
        if self.option.rank is not None:
            return self._thin(penalty[:-1].double().diag(), self.option.rank)
        solution = torch.linalg.solve(self.gram + penalty.double().diag(), self.cross)
        g = self.option.geometry
        weight = solution[:-1].T.reshape(g.out_channels, g.in_channels, *g.kernel)
        return Stencil(weight, solution[-1])

    def _thin(self, penalty: Tensor, rank: int) -> Stencil:
        """The two matrices, about the means of what goes in and comes out."""
        count = self.gram[-1, -1]
        mean_in, mean_out = self.gram[-1, :-1] / count, self.cross[-1] / count
        gram = self.gram[:-1, :-1] - count * torch.outer(mean_in, mean_in) + penalty
        cross = self.cross[:-1] - count * torch.outer(mean_in, mean_out)
        full = torch.linalg.solve(gram, cross)  # (in, out)
        _, vectors = torch.linalg.eigh(full.T @ cross)  # eigenvalues ascend
        kept = vectors[:, -rank:]  # (out, rank)
        inner = (full @ kept).T
        return Stencil(kept, mean_out - kept @ (inner @ mean_in), inner)


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
    """Fit every refit and low rank: its input as `source` computes it, its output as `dense` does.

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
