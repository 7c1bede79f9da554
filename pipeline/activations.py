"""One pass over calibration data gives the counters and moments of every activation site.

Per neuron (channel after a convolution, unit after a linear layer), over all samples and positions:
integer counts of z > 0, z < 0, z = 0 and (ReLU6) z > 6, and float64 sums of z, z^2, psi, psi^2,
z psi, where z is the pre-activation and psi the activation's output. Everything the criteria need
follows from them, once, at the end: no mean of per-batch entropies, no train mode, no augmentation.

Under torchrun every process sees its share of the data and gets the sums over all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx

from pipeline.edits.counting import Accumulator
from pipeline.edits.processes import sum_over_processes, total_over_processes
from pipeline.edits.tracing import BATCH_NORM, LINEAR_AXIS, sites
from pipeline.networks.tokens import arguments, attention_mask
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

    def never_on(self) -> np.ndarray:
        """The neurons that no sample switched on, bool; see `rate_bound` for what it proves."""
        return self.positive == 0

    def never_off(self) -> np.ndarray:
        """The neurons whose pre-activation was positive in every sample and position, bool."""
        return self.positive == self.count

    def unexplained(self) -> np.ndarray:
        """Variance of psi that the affine stand-in leaves: Var psi - Cov^2 / Var z."""
        a, _ = self.affine()
        return np.maximum(self.variance_psi() - a * self.covariance(), 0.0)


def rate_bound(samples: int) -> float:
    """What was seen in 0 of n independent samples happens with p < 3/n, at 95 % confidence.

    (1 - p)^n = 0.05 gives p = 1 - 0.05^(1/n) < -ln(0.05) / n < 3 / n. Positions within one sample
    depend on each other, so n counts samples.
    """
    return min(1.0, 3 / samples)


@dataclass(frozen=True, slots=True)
class Statistics:
    """The statistics of every site of one model over `samples` calibration samples."""

    samples: int
    sites: tuple[SiteStatistics, ...]

    def __getitem__(self, site: str) -> SiteStatistics:
        return next(s for s in self.sites if s.id == site)


# nothing else shares the memory of their outputs, so a ReLU may be in place, as models have it
FRESH = {BATCH_NORM, torch.ops.aten.add.Tensor, *LINEAR_AXIS}


class _Collector(fx.Interpreter):
    """Runs the graph and shows every site's input and output to its accumulator."""

    def __init__(self, module: fx.GraphModule, accumulators: dict[fx.Node, Accumulator]):
        super().__init__(module)
        self.accumulators = accumulators
        self.mask: Tensor | None = None

    def run_node(self, n: fx.Node) -> object:
        accumulator = self.accumulators.get(n)
        if accumulator is None:
            return super().run_node(n)
        source = n.all_input_nodes[0]
        z = self.env[source]
        if accumulator.needs_output:
            psi = super().run_node(n)
            assert isinstance(psi, Tensor), f"activation {n} gives no tensor"
            accumulator.add(z, psi, self.mask)
            return psi
        accumulator.add(z, None, self.mask)
        alone = source.target in FRESH and len(source.users) == 1
        return z.relu_() if alone else super().run_node(n)


@torch.no_grad()
def collect(
    module: fx.GraphModule,
    batches: Iterable[Tensor],
    *,
    step: Callable[[int], None],
) -> Statistics:
    """Run every batch through the traced model once; `step(n)` is told of each n samples.

    What a text's attention mask pads is not counted. Memory does not depend on the number of
    batches. Raises InputError for a model without activations, and for an empty calibration set.
    """
    found = sites(module)
    if not found:
        raise InputError("the model has no activation that shoal knows, so nothing to score")
    accumulators = {site.node: Accumulator(site) for site in found}
    collector = _Collector(module, accumulators)
    samples = 0
    for batch in batches:
        collector.mask = attention_mask(batch)
        collector.run(*arguments(batch))
        samples += len(batch)
        step(len(batch))
    samples = total_over_processes(samples)
    if not samples:
        raise InputError("the calibration set is empty: give [calibration] at least one sample")
    return Statistics(samples, tuple(_result(a) for a in accumulators.values()))


def _result(accumulator: Accumulator) -> SiteStatistics:
    site = accumulator.site
    sum_over_processes(accumulator.sums)
    accumulator.count = total_over_processes(accumulator.count)
    if not accumulator.count:
        raise InputError(f"site {site.id!r} was not reached by any calibration sample")
    counters, moments = accumulator.counters().cpu(), accumulator.moments().cpu()
    return SiteStatistics(
        site.id, site.kind, accumulator.count, *counters.numpy(), *moments.numpy()
    )
