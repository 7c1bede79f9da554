"""EASIER: the entropy of a rectifier's ON state (arXiv 2404.18949).

p_on = n_pos / (n_pos + n_neg)          zeros are discarded; 0 if z was always zero
H_i  = -p log2 p - (1 - p) log2 (1 - p)     in bits, per neuron
H_l  = mean over all neurons of the layer
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.activations import Statistics
from pipeline.criteria import Criterion, Scores, SiteScore


@dataclass(frozen=True, slots=True)
class Easier:
    """EASIER's entropy at data-set level, as the paper defines it."""

    def score(self, statistics: Statistics) -> Scores:
        sites = []
        for site in statistics.sites:
            signed = site.positive + site.negative
            on = np.where(signed > 0, site.positive / np.maximum(signed, 1), 0.0)
            neurons = binary_entropy(on)
            sites.append(SiteScore(site.id, float(neurons.mean()), neurons))
        return Scores("easier", statistics.samples, tuple(sites))


def binary_entropy(p: np.ndarray) -> np.ndarray:
    """-p log2 p - (1-p) log2 (1-p) in bits, with 0 log 0 = 0."""
    inside = (p > 0) & (p < 1)
    q = np.where(inside, p, 0.5)
    return np.where(inside, -q * np.log2(q) - (1 - q) * np.log2(1 - q), 0.0)


CRITERION: type[Criterion] = Easier
