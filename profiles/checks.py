"""What a gate checks besides "slower?", and how several checks become one verdict.

Accuracy is paired: with n samples, b that only the baseline gets right and c that only the
candidate does, the loss is p_d (2 t - 1), p_d the share of samples in which they differ and t
the share of those that the baseline wins. Clopper-Pearson bounds of both, each at half the
level, bound the loss without any approximation (conditional on b + c this is McNemar's exact
test).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from profiles.budget_rounds import BudgetDecision
from profiles.fitness import judge
from profiles.gate import FAIL, INCONCLUSIVE, PASS, UNFIT, Comparison, holm
from profiles.measurement import Measurement
from profiles.statistics import Estimate, binomial_below, quantile_interval
from runtimes.errors import InputError

WORST_FIRST = (FAIL, UNFIT, INCONCLUSIVE, PASS)


@dataclass(frozen=True, slots=True)
class Check:
    """One question with its answer; `value` is to be at most `limit`."""

    kind: str  # latency, budget, accuracy, drift
    model: str
    target: str | None
    verdict: str
    reason: str
    value: float
    limit: float
    unit: str
    interval: tuple[float | None, float | None]
    p_value: float | None = None

    @property
    def name(self) -> str:
        return " ".join(filter(None, [self.model, self.kind, self.target and f"on {self.target}"]))


def overall(checks: Sequence[Check]) -> str:
    """The worst verdict of all."""
    if not checks:
        raise InputError("nothing to check: give --baseline, --budget or --predictions")
    return min((check.verdict for check in checks), key=WORST_FIRST.index)


def latency(done: Comparison) -> Check:
    """The comparison as a check."""
    decision = done.decision
    low, high = decision.ratio.lo, decision.ratio.hi
    return Check(
        kind="latency",
        model=done.candidate.artifact.path.stem,
        target=done.candidate.target,
        verdict=decision.verdict,
        reason=decision.reason,
        value=decision.ratio.value,
        limit=1 + done.rule.margin,
        unit="x of the baseline",
        interval=(low, high) if low > 0 else (None, None),
        p_value=decision.p_value,
    )


def corrected(checks: Sequence[Check], alpha: float) -> list[Check]:
    """Holm over the checks of each kind: a FAIL that their number may explain is none."""
    found = list(checks)
    for kind in dict.fromkeys(check.kind for check in checks):
        tested = [
            index
            for index, check in enumerate(checks)
            if check.kind == kind and check.p_value is not None and check.verdict != UNFIT
        ]
        survivors = holm([checks[index].p_value or 0.0 for index in tested], alpha)
        reason = (
            f"not sure enough to be one FAIL among {len(tested)} {kind} checks (Holm, {alpha:g})"
        )
        for index, survives in zip(tested, survivors, strict=True):
            if checks[index].verdict == FAIL and not survives:
                told = f"{checks[index].reason}, but {reason}"
                found[index] = replace(checks[index], verdict=INCONCLUSIVE, reason=told)
    return found


def budget(measured: Measurement, decision: BudgetDecision) -> Check:
    """The budget's decision as a check."""
    low, high = decision.value.lo, decision.value.hi
    return Check(
        kind="budget",
        model=measured.artifact.path.stem,
        target=measured.target,
        verdict=decision.verdict,
        reason=decision.reason,
        value=decision.value.value,
        limit=decision.limit,
        unit=decision.unit,
        interval=(low, high) if low > 0 and high < np.inf else (None, None),
        p_value=decision.p_value,
    )


def accuracy(
    model: str, baseline: np.ndarray, candidate: np.ndarray, *, margin: float, alpha: float
) -> Check:
    """Is the candidate's accuracy lower by at most `margin`; arrays of right (1) and wrong (0)."""
    if baseline.shape != candidate.shape or baseline.ndim != 1 or not len(baseline):
        raise InputError(
            f"predictions must be of the same samples: {baseline.shape} and {candidate.shape}"
        )
    lost = int(np.sum(baseline & ~candidate))
    won = int(np.sum(~baseline & candidate))
    low, high = loss_bounds(lost, won, len(baseline), alpha)
    loss = (lost - won) / len(baseline)
    if high <= margin:
        verdict, reason = PASS, f"accuracy is lower by at most the margin of {margin:.2%}"
    elif low > margin:
        verdict, reason = FAIL, f"accuracy is lower by more than the margin of {margin:.2%}"
    else:
        verdict, reason = INCONCLUSIVE, f"{len(baseline)} samples cannot tell"
    return Check("accuracy", model, None, verdict, reason, loss, margin, "accuracy", (low, high))


def loss_bounds(lost: int, won: int, n: int, alpha: float) -> tuple[float, float]:
    """One-sided lower and upper bounds of the accuracy lost, each at level alpha."""
    return -_upper_loss(won, lost, n, alpha), _upper_loss(lost, won, n, alpha)


def _upper_loss(lost: int, won: int, n: int, alpha: float) -> float:
    share = 2 * upper_share(lost, lost + won, alpha / 2) - 1
    differing = upper_share if share > 0 else lower_share
    return differing(lost + won, n, alpha / 2) * share


def upper_share(successes: int, n: int, alpha: float) -> float:
    """Clopper-Pearson upper bound: the p with P(Binomial(n, p) <= successes) = alpha."""
    if successes >= n:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if binomial_below(n, middle)[successes] > alpha:
            low = middle
        else:
            high = middle
    return high


def lower_share(successes: int, n: int, alpha: float) -> float:
    """Clopper-Pearson lower bound, by symmetry."""
    return 1 - upper_share(n - successes, n, alpha)


def drift(
    model: str,
    targets: tuple[str, str],
    outputs: tuple[Mapping[str, Sequence[float]], Mapping[str, Sequence[float]]],
    *,
    limit: float,
) -> Check:
    """How far two runtimes' outputs are apart: RMS difference over RMS of the first's."""
    ours, theirs = (
        np.concatenate([np.asarray(one[name], float) for name in sorted(one)]) for one in outputs
    )
    if ours.shape != theirs.shape:
        raise InputError(f"{model}: the outputs have {ours.size} and {theirs.size} values")
    where = " against ".join(targets)
    broken = [int(np.sum(~np.isfinite(one))) for one in (ours, theirs)]
    if any(broken):
        told = [
            f"{count} of {ours.size} on {target}"
            for count, target in zip(broken, targets, strict=True)
            if count
        ]
        return Check(
            "drift", model, where, FAIL, f"outputs are not finite: {', '.join(told)}",
            max(broken) / ours.size, 0.0, "of the outputs are not finite", (None, None),
        )  # fmt: skip
    apart = ours - theirs
    scale = float(np.sqrt(np.mean(ours**2))) or 1.0
    relative = float(np.sqrt(np.mean(apart**2))) / scale
    norms = float(np.linalg.norm(ours) * np.linalg.norm(theirs)) or 1.0
    reason = (
        f"max |difference| {np.abs(apart).max():.3g}, 99 % {np.quantile(np.abs(apart), 0.99):.3g}, "
        f"cosine {float(ours @ theirs) / norms:.6f}, "
        f"largest output {'the same' if ours.argmax() == theirs.argmax() else 'another'}"
    )
    verdict = PASS if relative <= limit else FAIL
    return Check(
        "drift", model, where, verdict, reason, relative, limit,
        "relative RMS", (None, None),
    )  # fmt: skip


def against_stored(
    measured: Measurement, stored: Measurement, *, margin: float, alpha: float
) -> Check:
    """A fresh measurement against a stored one: refused unless host and identity are the same.

    Nothing cancels here, so the two medians' intervals, each at half the level, must be apart.
    """
    foreign = (*measured.fingerprint.difference(stored.fingerprint), *measured.differences(stored))
    if foreign:
        raise InputError(
            f"the stored baseline is no yardstick here, it differs in {'; '.join(foreign)}: "
            "leave out --absolute and the baseline is measured again beside the candidate"
        )
    apart = unpaired_ratio(measured, stored, alpha)
    low, high = apart.lo, apart.hi
    if low > 1 + margin:
        verdict, reason = FAIL, f"slower than the stored baseline by more than {margin:.1%}"
    elif high <= 1 + margin:
        verdict, reason = PASS, f"not slower than the stored baseline by more than {margin:.1%}"
    else:
        verdict, reason = INCONCLUSIVE, "the intervals of the two measurements overlap"
    fitness = judge([measured])
    if not fitness.fit:
        verdict, reason = UNFIT, f"{fitness.reasons[0]} (it would have been {verdict})"
    decided = low > 0 and high < np.inf
    return Check(
        "latency", measured.artifact.path.stem, measured.target, verdict, reason,
        apart.value, 1 + margin, "x of the stored baseline",
        (low, high) if decided else (None, None),
    )  # fmt: skip


def unpaired_ratio(measured: Measurement, stored: Measurement, alpha: float) -> Estimate:
    """Of the medians of two separate measurements; its ends are one-sided bounds at level alpha."""
    mine = quantile_interval(measured.round_medians_ms(), 0.5, 1 - alpha)
    theirs = quantile_interval(stored.round_medians_ms(), 0.5, 1 - alpha)
    return Estimate(
        mine.value / theirs.value,
        mine.lo / theirs.hi,
        mine.hi / theirs.lo if theirs.lo > 0 else np.inf,
        1 - 2 * alpha,
    )
