"""TLC: a batch norm says how often its rectifier is on; the loss says which site to give up.

    z_i ~ N(beta_i, gamma_i^2);   beta_i > 0: the neuron is linear (z);   beta_i <= 0: it is off (0)
    E_i = Phi(-|beta_i| / |gamma_i|)          how often that is wrong (0 where gamma_i is 0)

(arXiv 2412.15077). beta and gamma are batch norm's where it feeds the site directly, without data.
Elsewhere (behind a shortcut's sum, or with no batch norm) they are the mean and the spread of the
pre-activation, over all calibration data or over one batch. Sites are ranked by the loss of each
collapse on one held-out batch (variant "loss"), or by the mean of E_i (variant "error").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import fx
from torch.nn import functional

from pipeline.activations import SiteStatistics, collect
from pipeline.criteria import Criterion, Evidence, Scores, SiteScore, one_of
from pipeline.edits.neighbours import norm_before
from pipeline.edits.normal import error_probability
from pipeline.edits.removal import to_gate
from pipeline.edits.surgery import detached_copy, prune_unused
from pipeline.edits.tracing import TracedSite, sites
from pipeline.networks.tokens import arguments


@dataclass(frozen=True, slots=True)
class Normal:
    """N(beta, gamma^2) per neuron of one site."""

    beta: np.ndarray
    gamma: np.ndarray


@dataclass(frozen=True, slots=True)
class Tlc:
    """Neurons that are mostly on become linear, the others zero; off channels stay off."""

    variant: str = "loss"
    statistics: str = "calibration"  # or "batch": of the pre-activation where no batch norm is
    held_out: int = 500  # samples of the batch that ranks

    def __post_init__(self) -> None:
        one_of(self.variant, ("loss", "error"), "tlc")
        one_of(self.statistics, ("calibration", "batch"), "tlc")

    def score(self, evidence: Evidence) -> Scores:
        normals = self._normals(evidence)
        errors = {id_: error_probability(n.beta, n.gamma) for id_, n in normals.items()}
        if self.variant == "error":
            values = {id_: float(error.mean()) for id_, error in errors.items()}
        else:
            before = self._loss(evidence, evidence.model)
            values = {
                id_: self._loss(evidence, collapsed(evidence.model, normals, [id_])) - before
                for id_ in errors
            }
        found = (SiteScore(id_, values[id_], error) for id_, error in errors.items())
        return Scores("tlc", evidence.statistics.samples, tuple(found))

    def reduce(self, evidence: Evidence, count: int) -> fx.GraphModule:
        """Collapse the `count` sites of least loss, or more while that lowers the loss.

        In rounds of one, a set grows from the least on as long as its joint loss stays under the
        dense one's; the last good set is removed (the published code removes the first bad one).
        """
        normals = self._normals(evidence)
        ranking = [site.id for site in self.score(evidence).ranking()]
        chosen = ranking[:count]
        if count == 1 and self.variant == "loss":
            before = self._loss(evidence, evidence.model)
            for size in range(1, len(ranking) + 1):
                joint = self._loss(evidence, collapsed(evidence.model, normals, ranking[:size]))
                if joint >= before:
                    break
                chosen = ranking[:size]
        return collapsed(evidence.model, normals, chosen)

    def _normals(self, evidence: Evidence) -> dict[str, Normal]:
        known = evidence.statistics
        if self.statistics == "batch":
            batch = evidence.calibration.images[: self.held_out]
            known = collect(evidence.model, [batch], step=lambda _: None)
        return {
            site.id: self._normal(evidence.model, site, known[site.id])
            for site in sites(evidence.model)
        }

    @staticmethod
    def _normal(model: fx.GraphModule, site: TracedSite, known: SiteStatistics) -> Normal:
        norm = norm_before(model, site)
        if norm is not None:
            return Normal(norm.beta.numpy(), norm.gamma.numpy())
        return Normal(known.z / known.count, np.sqrt(known.variance_z()))

    @torch.no_grad()
    def _loss(self, evidence: Evidence, model: fx.GraphModule) -> float:
        images = evidence.calibration.images[: self.held_out]
        labels = evidence.calibration.labels[: self.held_out]
        return float(functional.cross_entropy(model(*arguments(images)).double(), labels))


def collapsed(
    model: fx.GraphModule, normals: dict[str, Normal], chosen: Sequence[str]
) -> fx.GraphModule:
    """A copy with every chosen site linear where beta > 0 and zero elsewhere."""
    copy = detached_copy(model)
    for site in sites(copy):
        if site.id in chosen:
            to_gate(copy, site, torch.from_numpy(normals[site.id].beta > 0))
    prune_unused(copy)
    return copy


CRITERION: type[Criterion] = Tlc
