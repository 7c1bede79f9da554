"""What an option costs in accuracy, before any training, by its effect on the whole network.

    loss_o = mean over calibration images of KL(softmax(dense(x)) || softmax(dense with o (x)))

in nats, every option alone, or two together, each with its best stand-in: affine maps and moved
padding for a merge, a fitted kernel for a refit. Alternatively a criterion's word: the sum of the
removed sites' scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, fx
from torch.nn import functional

from pipeline.activations import Statistics
from pipeline.criteria import Scores
from pipeline.finetune import predict
from pipeline.linearise import Stencil, linearise
from pipeline.mapping import Map, Option


@torch.no_grad()
def measure_effects(
    dense: fx.GraphModule,
    map_: Map,
    groups: Sequence[Sequence[Option]],
    images: Tensor,
    *,
    statistics: Statistics,
    stencils: Mapping[str, Stencil],
    step: Callable[[int], None],
) -> list[float]:
    """The loss of every group of options; one pass over `images` each, `step(1)` after each."""
    expected = functional.log_softmax(predict(dense, images), dim=1)
    losses = []
    for group in groups:
        edited = linearise(dense, map_, group, statistics=statistics, stencils=stencils)
        found = functional.log_softmax(predict(edited, images), dim=1)
        divergence = functional.kl_div(found, expected, reduction="batchmean", log_target=True)
        losses.append(max(0.0, float(divergence)))
        step(1)
    return losses


def losses_from(scores: Scores, options: Sequence[Option]) -> dict[str, float]:
    """The sum of the scores of the sites that each option removes."""
    score = {site.id: site.score for site in scores.sites}
    return {option.id: sum(score[site] for site in option.sites) for option in options}
