"""EASIER: the entropy of a rectifier's ON state (arXiv 2404.18949).

p_on = n_pos / (n_pos + n_neg)          zeros are discarded; 0 if z was always zero
H_i  = -p log2 p - (1 - p) log2 (1 - p)     in bits, per neuron
H_l  = mean over all neurons of the layer

That is the paper, over the whole data set in eval mode. The released code (variant "code") counts
z >= 0 as ON, takes the entropy of every mini-batch in train mode, and averages those.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import fx

from pipeline.activations import SiteStatistics, collect
from pipeline.criteria import Criterion, Evidence, Scores, SiteScore, one_of
from pipeline.edits.removal import to_identity
from pipeline.edits.surgery import detached_copy, prune_unused
from pipeline.edits.tracing import set_training, sites

SMALLEST = 1e-10  # below it the code clamps the argument of log2


@dataclass(frozen=True, slots=True)
class Easier:
    """EASIER's entropy; removed activations become the identity, for ON and OFF neurons alike."""

    variant: str = "paper"
    batch_size: int = 128  # of the code's mini-batches

    def __post_init__(self) -> None:
        one_of(self.variant, ("paper", "code"), "easier")

    def score(self, evidence: Evidence) -> Scores:
        if self.variant == "code":
            neurons = self._mean_of_batches(evidence)
        else:
            neurons = [binary_entropy(on_rate(site)) for site in evidence.statistics.sites]
        found = (
            SiteScore(site.id, float(h.mean()), h)
            for site, h in zip(evidence.statistics.sites, neurons, strict=True)
        )
        return Scores("easier", evidence.statistics.samples, tuple(found))

    def _mean_of_batches(self, evidence: Evidence) -> list[np.ndarray]:
        model = detached_copy(evidence.model)  # train mode moves its running statistics
        set_training(model, True)
        batches = [
            batch
            for batch in evidence.calibration.images.split(self.batch_size)
            if len(batch) > 1  # batch norm in train mode needs two values
        ]
        found = [collect(model, [batch], step=lambda _: None).sites for batch in batches]
        return [
            np.mean([_clamped_entropy(site) for site in of_one_site], axis=0)
            for of_one_site in zip(*found, strict=True)
        ]

    def reduce(self, evidence: Evidence, count: int) -> fx.GraphModule:
        """The lowest entropies, and as the algorithm has it every site at exactly 0."""
        ranking = self.score(evidence).ranking()
        idle = sum(site.score == 0 for site in ranking)
        chosen = {site.id for site in ranking[: max(count, idle)]}
        model = detached_copy(evidence.model)
        for site in sites(model):
            if site.id in chosen:
                to_identity(model, site)
        prune_unused(model)
        return model


def on_rate(site: SiteStatistics) -> np.ndarray:
    """n_pos / (n_pos + n_neg), 0 where z was always 0."""
    signed = site.positive + site.negative
    return np.where(signed > 0, site.positive / np.maximum(signed, 1), 0.0)


def binary_entropy(p: np.ndarray) -> np.ndarray:
    """-p log2 p - (1-p) log2 (1-p) in bits, with 0 log 0 = 0."""
    inside = (p > 0) & (p < 1)
    q = np.where(inside, p, 0.5)
    return np.where(inside, -q * np.log2(q) - (1 - q) * np.log2(1 - q), 0.0)


def _clamped_entropy(site: SiteStatistics) -> np.ndarray:
    p = (site.positive + site.zero) / site.count
    logs = [np.log2(np.maximum(q, SMALLEST)) for q in (p, 1 - p)]
    return -p * logs[0] - (1 - p) * logs[1]


CRITERION: type[Criterion] = Easier
