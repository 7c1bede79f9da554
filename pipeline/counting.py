"""Counters and moments of one site, added up batch by batch at little cost beside the forward pass.

A tensor is cut into chunks that stay in the processor's cache, and every quantity is a product with
a vector of ones: sums over at most `FOLD` addends in float32, which is exact for counters, and from
there on in float64. A rectifier's z psi is its psi^2, so it is not computed again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipeline.tracing import TracedSite

CHUNK = 2**19  # elements: 2 MiB in float32
FOLD = 1024  # addends of a float32 sum
WIDE = 32  # positions from which a row of them is summed at once
POSITIVE, SIGN, SATURATED, Z, ZZ, PSI, PSI_PSI, Z_PSI = range(8)
COUNTERS = 3


@dataclass(slots=True)
class Accumulator:
    """Integer counters and float64 sums of one site; `sums` is (8, neurons)."""

    site: TracedSite
    count: int = 0
    sums: Tensor = field(default_factory=lambda: torch.zeros(8, 0, dtype=torch.float64))

    def add(self, z: Tensor, psi: Tensor, mask: Tensor | None = None) -> None:
        """One batch; `mask` (batch, positions) leaves out what is 0 in it, such as padding."""
        z, psi = self._arranged(z, mask), self._arranged(psi, mask)
        if not self.count:
            self.sums = torch.zeros(8, z.shape[1], dtype=torch.float64, device=z.device)
        rows, neurons, positions = z.shape
        self.count += rows * positions
        chunk = min(max(1, CHUNK // max(1, neurons * positions)), FOLD)
        buffer = torch.empty_like(z[:chunk])
        for zs, psis in zip(z.split(chunk), psi.split(chunk), strict=True):
            self._add(zs, psis, buffer[: len(zs)])

    def _arranged(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(rows, neurons, positions) in float32 at least."""
        if x.dtype in (torch.float16, torch.bfloat16):
            x = x.float()
        if x.dim() == 1:
            return x.reshape(-1, 1, 1)
        if self.site.axis % x.dim() == x.dim() - 1:
            kept = x[mask.bool()] if mask is not None and x.dim() == mask.dim() + 1 else x
            return kept.reshape(-1, x.shape[-1], 1)
        return x.movedim(self.site.axis, 1).flatten(2).contiguous()

    def _add(self, z: Tensor, psi: Tensor, buffer: Tensor) -> None:
        sums, kind = self.sums, self.site.kind
        sums[Z] += _total(z)
        sums[PSI] += _total(psi)
        sums[ZZ] += _total(torch.mul(z, z, out=buffer))
        squares = _total(torch.mul(psi, psi, out=buffer))
        sums[PSI_PSI] += squares
        sums[Z_PSI] += squares if kind == "relu" else _total(torch.mul(z, psi, out=buffer))
        sums[POSITIVE] += _total(torch.gt(z, 0, out=buffer))
        sums[SIGN] += _total(torch.sign(z, out=buffer))
        if kind == "relu6":
            sums[SATURATED] += _total(torch.gt(z, 6, out=buffer))

    def moments(self) -> Tensor:
        """(5, neurons) float64: the sums of z, z^2, psi, psi^2, z psi."""
        return self.sums[COUNTERS:]

    def counters(self) -> Tensor:
        """(4, neurons) int64: positive, negative, zero, saturated."""
        positive, sign, saturated = self.sums[:COUNTERS].round().long()
        negative = positive - sign
        return torch.stack([positive, negative, self.count - positive - negative, saturated])


def _total(x: Tensor) -> Tensor:
    """(rows, neurons, positions) -> (neurons,) float64."""
    rows, neurons, positions = x.shape
    if positions >= WIDE:
        rests = x.view(rows * neurons, positions).split(FOLD, dim=1)
        parts = [rest @ rest.new_ones(rest.shape[1]) for rest in rests]
        return torch.stack(parts).double().view(len(parts), rows, neurons).sum((0, 1))
    columns = x.new_ones(rows) @ x.view(rows, neurons * positions)
    return columns.double().view(neurons, positions).sum(1)
