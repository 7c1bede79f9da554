"""NEPENTHE: prune where entropy and weights are small until a layer falls idle (arXiv 2404.16890).

    I_l = mean_i H_i ||w_i||_1 / ||w_i||_0      over the neurons of non-zero entropy; zeros dropped
    R_l = sum_j I_j / I_l                       0 where I_l is 0
    n_l = zeta sum_j ||w_j||_0 exp(R_l) / sum_j exp(R_j)        weights to prune in layer l

Its ancestor EGP (arXiv 2308.06619, variant "egp") counts zeros as OFF, has I_l = H_l mean |w|, and
leaves layers at zero entropy out. Only the layer that feeds a site is pruned, smallest weights
first, and the masks stay. A site at zero entropy is collapsed: ON passes, OFF is zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx

from pipeline.activations import SiteStatistics
from pipeline.criteria import Criterion, Evidence, Scores, SiteScore, one_of
from pipeline.criteria.easier import binary_entropy, on_rate
from pipeline.edits.emptied import drop_emptied
from pipeline.edits.neighbours import bypassed, constant, feeding, weight_node
from pipeline.edits.removal import mask_weight, to_gate
from pipeline.edits.surgery import detached_copy, prune_unused
from pipeline.edits.tracing import TracedSite, sites


@dataclass(frozen=True, slots=True)
class Nepenthe:
    """Irrelevance of every site; one `reduce` is one round of pruning, then what fell idle goes."""

    variant: str = "nepenthe"
    zeta: float = 0.5  # of the weights still there, per round

    def __post_init__(self) -> None:
        one_of(self.variant, ("nepenthe", "egp"), "nepenthe")

    def score(self, evidence: Evidence) -> Scores:
        known = evidence.statistics
        found = []
        for site in sites(evidence.model):
            entropy = self._entropy(known[site.id])
            magnitude = _magnitude(evidence.model, site, len(entropy))
            neurons = entropy * magnitude
            selected = entropy > 0
            score = float(neurons[selected].mean()) if selected.any() else 0.0
            if self.variant == "egp":
                score = float(entropy[selected].mean()) if selected.any() else 0.0
                score *= _layer_magnitude(evidence.model, site)
            found.append(SiteScore(site.id, score, neurons))
        return Scores("nepenthe", known.samples, tuple(found))

    def _entropy(self, site: SiteStatistics) -> np.ndarray:
        on = on_rate(site) if self.variant == "nepenthe" else site.positive / site.count
        return binary_entropy(on)

    def reduce(self, evidence: Evidence, count: int) -> fx.GraphModule:  # noqa: ARG002 - zeta rules
        """Collapse what is at zero entropy, prune by the budget, drop what that emptied.

        How many sites fall idle is the budget's doing; `count` has no say in it.
        """
        scores = self.score(evidence)
        model = detached_copy(evidence.model)
        for site in sites(model):
            if not self._entropy(evidence.statistics[site.id]).any():
                on = torch.from_numpy(evidence.statistics[site.id].positive > 0)
                to_gate(model, site, on)
        self._prune(model, {site.id: site.score for site in scores.sites})
        drop_emptied(model)
        prune_unused(model)
        return model

    def _prune(self, model: fx.GraphModule, irrelevance: dict[str, float]) -> None:
        layers = [(s, f) for s in sites(model) if (f := feeding(s)) is not None]
        if self.variant == "egp":
            layers = [(s, f) for s, f in layers if irrelevance[s.id] > 0]
        if not layers:
            return
        left = [int(constant(model, weight_node(f)).count_nonzero()) for _, f in layers]
        capacity = [
            n if bypassed(model, f) else max(0, n - len(constant(model, weight_node(f))))
            for n, (_, f) in zip(left, layers, strict=True)
        ]
        counts = split_budget(
            np.array([irrelevance[s.id] for s, _ in layers]),
            budget=self.zeta * sum(left),
            capacity=np.array(capacity),
        )
        for (_, operator), pruned in zip(layers, counts, strict=True):
            weight = constant(model, weight_node(operator))
            mask_weight(model, operator, smallest_removed(weight, int(pruned)))


def split_budget(irrelevance: np.ndarray, *, budget: float, capacity: np.ndarray) -> np.ndarray:
    """How many weights each layer loses: a softmax of its relevance R, overflow redistributed.

    A layer whose share exceeds its capacity loses just that; its count and its I leave the totals,
    and the rest is split anew until nothing overflows.
    """
    counts = np.zeros(len(irrelevance), dtype=np.int64)
    active = np.ones(len(irrelevance), dtype=bool)
    while active.any() and budget >= 1:
        inside = irrelevance[active]
        relevance = np.where(inside > 0, inside.sum() / np.where(inside > 0, inside, 1.0), 0.0)
        weight = np.exp(relevance - relevance.max())
        shares = np.zeros(len(irrelevance))
        shares[active] = budget * weight / weight.sum()
        over = active & (shares > capacity)
        if not over.any():
            counts[active] = np.floor(shares[active]).astype(np.int64)
            break
        counts[over] = capacity[over]
        budget -= int(capacity[over].sum())
        active &= ~over
    return counts


def smallest_removed(weight: Tensor, count: int) -> Tensor:
    """A mask like `weight`: 0 for what is zero already and for the `count` smallest of the rest."""
    magnitude = weight.abs().flatten()
    kept = magnitude > 0
    order = torch.where(kept, magnitude, torch.inf).argsort(stable=True)
    kept[order[:count]] = False
    return kept.view_as(weight)


def _rows(model: fx.GraphModule, site: TracedSite) -> Tensor | None:
    """(neurons, weights of each), float64, of the layer that feeds the site."""
    operator = feeding(site)
    if operator is None:
        return None
    return constant(model, weight_node(operator)).double().flatten(1)


def _magnitude(model: fx.GraphModule, site: TracedSite, neurons: int) -> np.ndarray:
    """||w_i||_1 / ||w_i||_0 per neuron, 0 where nothing is left; 1 without a layer of its own."""
    rows = _rows(model, site)
    if rows is None or len(rows) != neurons:
        return np.ones(neurons)
    return (rows.abs().sum(1) / rows.count_nonzero(1).clamp(min=1)).numpy()


def _layer_magnitude(model: fx.GraphModule, site: TracedSite) -> float:
    rows = _rows(model, site)
    return 1.0 if rows is None else float(rows.abs().sum() / max(1, int(rows.count_nonzero())))


CRITERION: type[Criterion] = Nepenthe
