"""What whole plans measured corrects what their options were reckoned to change.

With table d, plans as rows of A, and y what they measured (all differences to dense, in ms):

    s  = argmin sum_k w_k (y_k - s (A d)_k)^2          w_k = 1 / (R_kk + (RESIDUAL A d)_k^2)
    d' = s d + V A' (A V A' + R)^-1 (y - s A d)        V = diag((RESIDUAL s d)^2 + (s e)^2)

There is one scale per target, within SCALE_LIMITS, as far from 1 as the noise leaves it certain:
with v the variance that R gives it, s (1 - v / (v + SCALE^2)) + v / (v + SCALE^2).
The second term is the posterior mean of a residual per option: it goes first to options whose own
interval e is wide and those of large effect, and no further than the noise R of the plans allows.
Everything is relative to the dense network beside the plan: a host that became slower in between
must not look like a smaller saving. The budget shrinks by the arm of the plans' intervals, because
it is their upper bound that has to meet it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from pipeline.planning import LatencyTable, Limit
from profiles.statistics import Estimate

SCALE_LIMITS = (0.25, 4.0)  # a busy host interrupts a long network more than a short piece
SCALE = 0.5  # how far from 1 a scale is expected to be, as a deviation
RESIDUAL = 0.2  # of an option's difference: what the scale leaves unexplained, as a deviation
EXACTNESS = 1e-6  # of dense: no plan is measured better than this


def corrected(
    limit: Limit, table: LatencyTable, plans: Sequence[frozenset[str]], ratios: Sequence[Estimate]
) -> Limit:
    """`limit` as the table gave it, after these plans measured these ratios to dense."""
    if not plans:
        return limit
    dense = limit.dense_ms
    ids = list(limit.differences_ms)
    d = np.array([limit.differences_ms[id_] for id_ in ids])
    error = np.array([_arm(table.differences[id_]) for id_ in ids])
    chosen = np.array([[float(id_ in plan) for id_ in ids] for plan in plans])  # (plans, options)
    measured = np.array([dense * (ratio.value - 1) for ratio in ratios])
    noise = np.array([dense * (_arm(ratio) + EXACTNESS) for ratio in ratios])
    predicted = chosen @ d
    saving = predicted < 0
    scale = 1.0
    if saving.any():
        scale = _scale(predicted[saving], measured[saving], noise[saving])
    variance = (RESIDUAL * scale * d) ** 2 + (scale * error) ** 2
    covariance = (chosen * variance) @ chosen.T + np.diag(noise**2)
    unexplained = np.linalg.solve(covariance, measured - scale * predicted)
    better = scale * d + variance * (chosen.T @ unexplained)
    arm = median(ratio.hi / ratio.value for ratio in ratios)
    return replace(
        limit,
        differences_ms=dict(zip(ids, better.tolist(), strict=True)),
        budget_ms=limit.budget_ms / arm,
    )


def _scale(predicted: np.ndarray, measured: np.ndarray, noise: np.ndarray) -> float:
    pull = predicted / (noise**2 + (RESIDUAL * predicted) ** 2)
    best = pull @ measured / (pull @ predicted)
    variance = (pull**2 @ noise**2) / (pull @ predicted) ** 2
    doubt = variance / (variance + SCALE**2)
    return float(np.clip(best + doubt * (1 - best), *SCALE_LIMITS))


def _arm(estimate: Estimate) -> float:
    return (estimate.hi - estimate.lo) / 2
