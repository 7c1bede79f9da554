"""Counters and moments of one site, added up batch by batch at little cost beside the forward pass.

A batch is cut into blocks that stay in the processor's cache, and the blocks are added up element
by element: few enough in float32 that counters are exact, and in float64 from there on. sign(z)
gives all three states: its sum is positive - negative, that of its square their sum. A ReLU's z psi
is its psi^2, so it is not computed again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipeline.tracing import TracedSite

BLOCK = 2**16  # elements: 256 KiB in float32
FOLD = 1024  # rows added up in float32
EXACT = 2**24  # whole numbers up to it are exact in float32
SIGN, SIGNED, SATURATED, Z, ZZ, PSI, PSI_PSI, Z_PSI = range(8)
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
        width = neurons * positions  # rows of it are joined into a block, or it is cut into blocks
        joined = min(max(1, BLOCK // width), rows)
        fold = joined * max(1, min(FOLD, EXACT // positions))
        for first in range(0, rows, fold):
            zs, psis = (x[first : first + fold].view(-1, width) for x in (z, psi))
            whole = len(zs) // joined * joined
            sums = z.new_zeros(8, joined * width)
            self._add(
                zs[:whole].view(-1, joined * width), psis[:whole].view(-1, joined * width), sums
            )
            if whole < len(zs):
                self._add(zs[whole:].view(1, -1), psis[whole:].view(1, -1), sums)
            self.sums += sums.view(8, joined, neurons, positions).sum(3).double().sum(1)

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

    def _add(self, z: Tensor, psi: Tensor, sums: Tensor) -> None:
        """Add the sums over the rows of (rows, columns) to the first columns of (8, all)."""
        for start in range(0, z.shape[1], BLOCK):
            part = slice(start, min(start + BLOCK, z.shape[1]))
            into, state = list(sums[:, part]), torch.empty_like(sums[0, part])
            for x, y in zip(z[:, part], psi[:, part], strict=True):
                torch.sign(x, out=state)
                into[SIGN].add_(state)
                into[SIGNED].addcmul_(state, state)
                into[Z].add_(x)
                into[ZZ].addcmul_(x, x)
                into[PSI].add_(y)
                into[PSI_PSI].addcmul_(y, y)
                if self.site.kind == "relu6":
                    into[SATURATED].add_(torch.gt(x, 6, out=state))
                if self.site.kind != "relu":
                    into[Z_PSI].addcmul_(x, y)

    def moments(self) -> Tensor:
        """(5, neurons) float64: the sums of z, z^2, psi, psi^2, z psi."""
        found = self.sums[COUNTERS:].clone()
        if self.site.kind == "relu":
            found[-1] = found[-2]
        return found

    def counters(self) -> Tensor:
        """(4, neurons) int64: positive, negative, zero, saturated."""
        sign, signed, saturated = self.sums[:COUNTERS].round().long()
        positive, negative = (signed + sign) // 2, (signed - sign) // 2
        return torch.stack([positive, negative, self.count - signed, saturated])
