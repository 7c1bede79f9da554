"""Counters and moments of one site, added up batch by batch at little cost beside the forward pass.

A batch is cut into blocks that stay in the processor's cache; in a block every quantity is summed
along one axis in float32, few enough values that counters are exact, and float64 goes on from
there. sign(z) gives all three states: its sum is positive - negative, that of |sign(z)| their sum.
A ReLU's output is made again inside the cache rather than read from memory, and its z psi is psi^2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipeline.edits.tracing import TracedSite

BLOCK = 2**16  # elements: 256 KiB in float32
LINE = 32  # positions from which on it is cheaper to sum along them than over the samples
EXACT = 2**24  # whole numbers up to it are exact in float32
COUNTERS = 3  # of the eight sums: of sign(z), of |sign(z)|, of z > 6


@dataclass(slots=True)
class Accumulator:
    """Integer counters and float64 sums of one site; `sums` is (8, neurons)."""

    site: TracedSite
    count: int = 0
    sums: Tensor = field(default_factory=lambda: torch.zeros(8, 0, dtype=torch.float64))

    @property
    def needs_output(self) -> bool:
        return self.site.kind != "relu"

    def add(self, z: Tensor, psi: Tensor | None, mask: Tensor | None = None) -> None:
        """One batch; `mask` (batch, positions) leaves out what is 0 in it, such as padding.

        `psi` may be None unless `needs_output`.
        """
        z = self._arranged(z, mask)
        rows, neurons, positions = z.shape
        if not self.count:
            self.sums = torch.zeros(8, neurons, dtype=torch.float64, device=z.device)
        self.count += rows * positions
        if positions > EXACT:
            z = z.double()
        along = positions >= LINE
        shape = (rows * neurons, positions) if along else (rows, neurons * positions)
        z = z.view(shape)
        psi = self._arranged(psi, mask).view(shape) if psi is not None else None
        height = min(max(1, BLOCK // shape[1]), shape[0])
        scratch = z.new_empty(height, shape[1])
        found = []
        for first in range(0, shape[0], height):
            block = slice(first, first + height)
            x, y = z[block], psi[block] if psi is not None else None
            found.append(self._summed(x, y, scratch[: len(x)], axis=int(along)))
        if along:
            self.sums += torch.cat(found, 1).double().view(8, rows, neurons).sum(1)
        else:
            self.sums += torch.stack(found).double().sum(0).view(8, neurons, positions).sum(2)

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

    def _summed(self, z: Tensor, psi: Tensor | None, scratch: Tensor, *, axis: int) -> Tensor:
        """(8, lines): every quantity of a block, summed along `axis`."""
        sign = torch.sign(z, out=scratch).sum(axis)
        signed = scratch.abs_().sum(axis)
        over = torch.gt(z, 6, out=scratch).sum(axis) if self.site.kind == "relu6" else sign * 0
        squared = torch.mul(z, z, out=scratch).sum(axis)
        if self.needs_output:
            assert psi is not None, f"{self.site.id} gives an output"
            output = psi.sum(axis)
            output_squared = torch.mul(psi, psi, out=scratch).sum(axis)
            product = torch.mul(z, psi, out=scratch).sum(axis)
        else:
            output = torch.clamp(z, min=0, out=scratch).sum(axis)
            output_squared = product = scratch.square_().sum(axis)
        return torch.stack(
            [sign, signed, over, z.sum(axis), squared, output, output_squared, product]
        )

    def moments(self) -> Tensor:
        """(5, neurons) float64: the sums of z, z^2, psi, psi^2, z psi."""
        return self.sums[COUNTERS:]

    def counters(self) -> Tensor:
        """(4, neurons) int64: positive, negative, zero, saturated."""
        sign, signed, saturated = self.sums[:COUNTERS].round().long()
        positive, negative = (signed + sign) // 2, (signed - sign) // 2
        return torch.stack([positive, negative, self.count - signed, saturated])
