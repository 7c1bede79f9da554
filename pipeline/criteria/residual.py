"""Linearisation residual (ours): what the best affine stand-in cannot explain of an activation.

    r_i = 1 - Cov(z_i, psi_i)^2 / (Var z_i Var psi_i)       per neuron, in [0, 1]
    r_l = sum_i (unexplained variance) / sum_i (variance of psi)

A neuron that is linear on the data (always ON, always OFF, or constant) has residual 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.activations import Statistics
from pipeline.criteria import Criterion, Scores, SiteScore


@dataclass(frozen=True, slots=True)
class Residual:
    """The share of a site's output variance that no affine map of its input gives."""

    def score(self, statistics: Statistics) -> Scores:
        sites = []
        for site in statistics.sites:
            unexplained, variance = site.unexplained(), site.variance_psi()
            neurons = unexplained / np.where(variance > 0, variance, 1.0)
            total = float(variance.sum())
            score = float(unexplained.sum()) / total if total > 0 else 0.0
            sites.append(SiteScore(site.id, score, neurons))
        return Scores("residual", statistics.samples, tuple(sites))


CRITERION: type[Criterion] = Residual
