"""One pass over calibration data gives the counters and moments of every activation site.

Per neuron (channel after a convolution, unit after a linear layer), over all samples and positions:
integer counts of z > 0, z < 0, z = 0, z > 6, and float64 sums of z, z^2, psi, psi^2, z psi, where z
is the pre-activation and psi the activation's output. Everything the criteria need follows from
them, once, at the end: no mean of per-batch entropies, no train mode, no augmentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx

from pipeline.tracing import TracedSite, sites
from runtimes.errors import InputError


@dataclass(frozen=True, slots=True)
class SiteStatistics:
    """Counters (int64) and sums (float64) of one site, each of shape (neurons,)."""

    id: str
    kind: str
    count: int  # samples x positions, the same for every neuron
    positive: np.ndarray
    negative: np.ndarray
    zero: np.ndarray
    saturated: np.ndarray
    z: np.ndarray
    zz: np.ndarray
    psi: np.ndarray
    psi_psi: np.ndarray
    z_psi: np.ndarray

    def variance_z(self) -> np.ndarray:
        return np.maximum(self.zz / self.count - (self.z / self.count) ** 2, 0.0)

    def variance_psi(self) -> np.ndarray:
        return np.maximum(self.psi_psi / self.count - (self.psi / self.count) ** 2, 0.0)

    def covariance(self) -> np.ndarray:
        return self.z_psi / self.count - self.z * self.psi / self.count**2

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """The least-squares stand-in a z + c: a = Cov(z, psi) / Var(z), c = E psi - a E z.

        A neuron whose z never varies gets a = 0, c = E psi.
        """
        variance = self.variance_z()
        alive = variance > 1e-12 * np.maximum(self.zz / self.count, 1e-300)
        a = np.where(alive, self.covariance() / np.where(alive, variance, 1.0), 0.0)
        return a, (self.psi - a * self.z) / self.count

    def unexplained(self) -> np.ndarray:
        """Variance of psi that the affine stand-in leaves: Var psi - Cov^2 / Var z."""
        a, _ = self.affine()
        return np.maximum(self.variance_psi() - a * self.covariance(), 0.0)


@dataclass(frozen=True, slots=True)
class Statistics:
    """The statistics of every site of one model over `samples` calibration samples."""

    samples: int
    sites: tuple[SiteStatistics, ...]

    def __getitem__(self, site: str) -> SiteStatistics:
        return next(s for s in self.sites if s.id == site)


class _Accumulator:
    def __init__(self, site: TracedSite):
        self.site = site
        self.count = 0
        self.sums: Tensor | None = None  # (5, neurons) float64
        self.counts: Tensor | None = None  # (4, neurons) int64

    def add(self, z: Tensor, psi: Tensor) -> None:
        z = z.movedim(self.site.axis, 0).flatten(1)  # (neurons, samples x positions)
        psi = psi.movedim(self.site.axis, 0).flatten(1)
        counts = torch.stack([(s).sum(1) for s in (z > 0, z < 0, z == 0, z > 6)])
        z, psi = z.double(), psi.double()
        sums = torch.stack([z.sum(1), _dot(z, z), psi.sum(1), _dot(psi, psi), _dot(z, psi)])
        self.count += z.shape[1]
        self.counts = counts if self.counts is None else self.counts + counts
        self.sums = sums if self.sums is None else self.sums + sums

    def result(self) -> SiteStatistics:
        if self.counts is None or self.sums is None:
            raise InputError(f"site {self.site.id!r} was not reached by any calibration sample")
        return SiteStatistics(
            self.site.id, self.site.kind, self.count, *self.counts.numpy(), *self.sums.numpy()
        )


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.einsum("np,np->n", a, b)


class _Collector(fx.Interpreter):
    """Runs the graph and shows every site's input and output to its accumulator."""

    def __init__(self, module: fx.GraphModule, accumulators: dict[fx.Node, _Accumulator]):
        super().__init__(module)
        self.accumulators = accumulators

    def run_node(self, n: fx.Node) -> object:
        result = super().run_node(n)
        if n in self.accumulators:
            self.accumulators[n].add(self.env[n.all_input_nodes[0]], result)
        return result


@torch.no_grad()
def collect(
    module: fx.GraphModule, batches: Iterable[Tensor], *, step: Callable[[int], None]
) -> Statistics:
    """Run every batch through the traced model once; `step(n)` is told of each n samples.

    Memory does not depend on the number of batches. Raises InputError for a model without
    activations, and for an empty calibration set.
    """
    found = sites(module)
    if not found:
        raise InputError("the model has no activation that shoal knows, so nothing to score")
    accumulators = {site.node: _Accumulator(site) for site in found}
    collector = _Collector(module, accumulators)
    samples = 0
    for batch in batches:
        collector.run(batch)
        samples += len(batch)
        step(len(batch))
    if not samples:
        raise InputError("the calibration set is empty: give [calibration] at least one image")
    return Statistics(samples, tuple(a.result() for a in accumulators.values()))
