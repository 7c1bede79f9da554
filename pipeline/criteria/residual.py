"""Linearisation residual (ours): what the best affine stand-in cannot explain of an activation.

    u_i = Var psi_i - Cov(z_i, psi_i)^2 / Var z_i       per neuron: energy that no line gives
    g_i = sum over readers ||W[:, i]||^2                what the next operators pass on of it
    r_l = sum_i g_i u_i / sum_i g_i Var psi_i           in [0, 1]

A neuron that is linear on the data (always ON, always OFF, or constant) has residual 0. The moments
are the calibration data's, or with variant "norm" those of N(beta, gamma^2), read off the batch
norm in front of a ReLU or ReLU6 without any data; other sites then fall back to the data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import fx

from pipeline.activations import SiteStatistics
from pipeline.criteria import Criterion, Evidence, Scores, SiteScore, one_of
from pipeline.edits.neighbours import gain, norm_before
from pipeline.edits.normal import KINDS, Rectified, rectified
from pipeline.edits.removal import to_affine
from pipeline.edits.surgery import detached_copy, prune_unused
from pipeline.edits.tracing import TracedSite, sites


@dataclass(frozen=True, slots=True)
class Residual:
    """The share of a site's output energy, as its readers see it, that no affine map gives."""

    variant: str = "moments"

    def __post_init__(self) -> None:
        one_of(self.variant, ("moments", "norm"), "residual")

    def score(self, evidence: Evidence) -> Scores:
        found = []
        for traced in sites(evidence.model):
            line = self._line(evidence.model, traced, evidence.statistics[traced.id])
            passed_on = gain(evidence.model, traced).numpy()
            whole = float((passed_on * line.variance).sum())
            rest = float((passed_on * line.unexplained).sum())
            neurons = line.unexplained / np.where(line.variance > 0, line.variance, 1.0)
            found.append(SiteScore(traced.id, rest / whole if whole > 0 else 0.0, neurons))
        return Scores("residual", evidence.statistics.samples, tuple(found))

    def reduce(self, evidence: Evidence, count: int) -> fx.GraphModule:
        """The affine stand-in a z + c in place of the `count` sites of least residual."""
        chosen = {site.id for site in self.score(evidence).ranking()[:count]}
        model = detached_copy(evidence.model)
        for site in sites(model):
            if site.id in chosen:
                line = self._line(model, site, evidence.statistics[site.id])
                to_affine(model, site, torch.from_numpy(line.a), torch.from_numpy(line.c))
        prune_unused(model)
        return model

    def _line(self, model: fx.GraphModule, site: TracedSite, known: SiteStatistics) -> Rectified:
        norm = norm_before(model, site) if self.variant == "norm" and site.kind in KINDS else None
        if norm is not None:
            return rectified(site.kind, norm.beta.numpy(), norm.gamma.numpy())
        a, c = known.affine()
        return Rectified(a, c, known.variance_psi(), known.unexplained())


CRITERION: type[Criterion] = Residual
