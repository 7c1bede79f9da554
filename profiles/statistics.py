"""Distribution-free statistics, exact for small samples.

    signed rank:  W = sum of ranks of |x_i| over x_i > 0; under symmetry P(W = w) = c_n(w) / 2^n,
                  c_n the number of subsets of {1..n} with sum w
    Hodges-Lehmann: the median of the Walsh averages (x_i + x_j) / 2, i <= j; the interval cuts
                  as many Walsh averages off each end as W allows
    quantile q:   (X_(l), X_(u)) covers it with probability P(l <= Binomial(n, q) < u)

Ties and zeros make these intervals wider than need be, never narrower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, comb, inf, log

import numpy as np


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval and the confidence that the interval really has."""

    value: float
    lo: float
    hi: float
    confidence: float


@cache
def signed_rank_counts(n: int) -> tuple[int, ...]:
    """How many of the 2^n sign patterns give each W = 0 .. n(n+1)/2."""
    counts = [1]
    for rank in range(1, n + 1):
        grown = [0] * (len(counts) + rank)
        for w, count in enumerate(counts):
            grown[w] += count
            grown[w + rank] += count
        counts = grown
    return tuple(counts)


@cache
def signed_rank_cut(n: int, tail: float) -> tuple[int, float]:
    """The most Walsh averages that may go from one end, and the tail that it really costs.

    Cutting k leaves the (k+1)-th smallest as bound; it errs with probability P(W <= k).
    k = -1 when even the extreme Walsh average errs more often than `tail`.
    """
    cut, below, spent = -1, 0, 0.0
    for w, count in enumerate(signed_rank_counts(n)):
        below += count
        if below / 2**n > tail:
            break
        cut, spent = w, below / 2**n
    return cut, spent


def signed_rank_interval(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Hodges-Lehmann estimate and two-sided interval; too few values give all they have."""
    averages = walsh_averages(values)
    cut, tail = signed_rank_cut(len(values), (1 - confidence) / 2)
    if cut < 0:
        cut, tail = 0, 1 / 2 ** len(values)
    return Estimate(
        float(np.median(averages)), float(averages[cut]), float(averages[-1 - cut]), 1 - 2 * tail
    )


def signed_rank_bound(values: Sequence[float], alpha: float) -> tuple[float, float]:
    """One-sided lower and upper bounds, each at level alpha; infinite when n is too small."""
    averages = walsh_averages(values)
    cut, _ = signed_rank_cut(len(values), alpha)
    if cut < 0:
        return -inf, inf
    return float(averages[cut]), float(averages[-1 - cut])


def signed_rank_p(values: Sequence[float]) -> float:
    """One-sided p value of "the centre is not above zero"; zeros count against it."""
    positive = int(sum(average > 0 for average in walsh_averages(values)))
    counts = signed_rank_counts(len(values))
    return sum(counts[positive:]) / 2 ** len(values)


def walsh_averages(values: Sequence[float]) -> np.ndarray:
    """Sorted (x_i + x_j) / 2 over i <= j."""
    x = np.asarray(values, dtype=float)
    first, second = _pairs(len(x))
    return np.sort((x[first] + x[second]) / 2)


@cache
def _pairs(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.triu_indices(n)


def fewest_rounds(alpha: float) -> int:
    """Below this many rounds no outcome can reach the one-sided level: 2^-n <= alpha."""
    return ceil(-log(alpha) / log(2) - 1e-9)


def binomial_below(n: int, q: float) -> np.ndarray:
    """P(Binomial(n, q) <= k) for k = 0 .. n, by logarithms so that large n works."""
    if q <= 0 or q >= 1:
        raise ValueError(f"a quantile lies inside (0, 1), not at {q}")
    k = np.arange(1, n + 1)
    steps = np.log((n - k + 1) / k) + log(q) - log(1 - q)
    logs = n * log(1 - q) + np.concatenate([[0.0], np.cumsum(steps)])
    return np.minimum(np.cumsum(np.exp(logs)), 1.0)


def quantile_interval(values: Sequence[float], q: float, confidence: float = 0.95) -> Estimate:
    """Order-statistic interval of the q-quantile; an end is infinite when n is too small."""
    x = np.sort(np.asarray(values, dtype=float))
    n = len(x)
    below = binomial_below(n, q)
    tail = (1 - confidence) / 2
    # X_(l) > quantile needs fewer than l samples below it: P(B <= l - 1) <= tail
    low = int(np.searchsorted(below, tail, side="right"))
    # X_(u) <= quantile needs at least u samples below it: P(B >= u) <= tail
    high = int(np.searchsorted(below, 1 - tail, side="left")) + 1
    spent = float(below[low - 1]) if low >= 1 else 0.0
    spent += float(1 - below[high - 1]) if high <= n else 0.0
    return Estimate(
        float(np.quantile(x, q)),
        float(x[low - 1]) if low >= 1 else -inf,
        float(x[high - 1]) if high <= n else inf,
        1 - spent,
    )


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The median with its sign-test interval; too few values give all they have."""
    interval = quantile_interval(values, 0.5, confidence)
    if interval.lo > -inf:
        return interval
    n = len(values)
    return Estimate(interval.value, min(values), max(values), 1 - 2 / 2**n if n > 1 else 0.0)


def samples_needed(q: float, confidence: float = 0.95) -> int:
    """To bound the q-quantile from above, the largest of n must exceed it: q^n <= 1 - c."""
    return ceil(log(1 - confidence) / log(q) - 1e-9)


def upper_quantile(values: Sequence[float], q: float, confidence: float = 0.95) -> float | None:
    """One-sided upper confidence bound of the q-quantile, or None when n is too small."""
    n = len(values)
    if n < samples_needed(q, confidence):
        return None
    below = binomial_below(n, q)
    rank = int(np.searchsorted(below, confidence - 1e-12, side="left")) + 1
    return float(np.sort(np.asarray(values, dtype=float))[rank - 1])


def sign_test_p(wins: int, losses: int) -> float:
    """One-sided exact p value of "wins are not likelier than losses" (McNemar's exact test)."""
    n = wins + losses
    return sum(comb(n, k) for k in range(wins, n + 1)) / 2**n
