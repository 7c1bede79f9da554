"""Is B slower than A? A verdict from rounds, with extra looks paid for beforehand.

With r_i the log ratio of round i, margin d and level a shared equally by L planned looks:

    FAIL          lower one-sided bound at a / L  >  log(1 + d)
    PASS          upper one-sided bound at a / L <=  log(1 + d)
    INCONCLUSIVE  neither: go on to the next look; after the last one it stays so

By Bonferroni the chance of a wrong FAIL over all looks stays below a, and so does that of a
wrong PASS. k rounds cannot reach a level below 2^-k, whatever they show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path

from profiles.comparison import log_ratios, require_same_identity
from profiles.fitness import Fitness, judge
from profiles.lease import lease
from profiles.measurement import Measurement
from profiles.rounds import Sampling, StartWorker, Trial, start_worker
from profiles.statistics import (
    Estimate,
    fewest_rounds,
    signed_rank_bound,
    signed_rank_p,
    walsh_averages,
)
from profiles.target import Target
from runtimes.errors import InputError

PASS, FAIL, INCONCLUSIVE, UNFIT = "PASS", "FAIL", "INCONCLUSIVE", "UNFIT"
LOOKS = (10, 15, 20)
PAIRED = Sampling(block_s=0.04, min_runs=20, laps=6, warm_up_s=1.0, warm_up_cap_s=1.5)


@dataclass(frozen=True, slots=True)
class Rule:
    """What counts as slower, how surely, and after how many rounds we look."""

    margin: float = 0.02
    alpha: float = 0.01
    looks: tuple[int, ...] = LOOKS

    @property
    def alpha_per_look(self) -> float:
        return self.alpha / len(self.looks)

    @property
    def confidence(self) -> float:
        """Of the interval at a look, whose two ends are one-sided bounds."""
        return 1 - 2 * self.alpha_per_look


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict of one look, or of the last one."""

    verdict: str
    reason: str
    ratio: Estimate  # its ends are the two one-sided bounds
    p_value: float  # of "not slower than the margin", corrected for the looks


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides' measurements and what follows from them."""

    baseline: Measurement
    candidate: Measurement
    decision: Decision
    fitness: Fitness
    rule: Rule
    rounds: int


def planned(margin: float, alpha: float, rounds: int) -> Rule:
    """A rule whose last look is after `rounds` rounds; earlier looks where they are worth it."""
    if not 0 < alpha < 0.5:
        raise InputError(f"alpha is {alpha}: it lies between 0 and 0.5, e.g. 0.01")
    if not 0 <= margin < 1:
        raise InputError(f"the margin is {margin}: a share such as 2%, at least 0 and below 100%")
    if rounds < 1:
        raise InputError(f"{rounds} rounds measure nothing: at least {fewest_rounds(alpha)}")
    earlier = tuple(look for look in LOOKS if look < rounds)
    while earlier and fewest_rounds(alpha / (len(earlier) + 1)) > earlier[0]:
        earlier = earlier[1:]
    return Rule(margin, alpha, (*earlier, rounds))


def decide(logs: Sequence[float], rule: Rule) -> Decision:
    """The verdict on these rounds at one look."""
    limit = log(1 + rule.margin)
    low, high = signed_rank_bound(logs, rule.alpha_per_look)
    centre = float(walsh_averages(logs)[_middle(len(logs))].mean())
    p_value = min(1.0, len(rule.looks) * signed_rank_p([one - limit for one in logs]))
    estimate = Estimate(exp(centre), exp(low), exp(high), rule.confidence)
    needed = fewest_rounds(rule.alpha_per_look)
    if len(logs) < needed:
        verdict, reason = (
            INCONCLUSIVE,
            (
                f"{len(logs)} rounds cannot decide at alpha {rule.alpha_per_look:.2g}: "
                f"at least {needed} are needed"
            ),
        )
    elif low > limit:
        verdict, reason = FAIL, f"slower by more than the margin of {rule.margin:.1%}"
    elif high <= limit:
        verdict, reason = PASS, f"not slower by more than the margin of {rule.margin:.1%}"
    else:
        verdict, reason = (
            INCONCLUSIVE,
            (f"the interval spans 1 + margin ({1 + rule.margin:.3f}) after {len(logs)} rounds"),
        )
    return Decision(verdict, reason, estimate, p_value)


def decided(decision: Decision, _baseline: Measurement, _candidate: Measurement) -> bool:
    """Whether a look may be the last: by default when it has a verdict."""
    return decision.verdict != INCONCLUSIVE


def compare(
    target: Target,
    baseline: Path,
    candidate: Path,
    *,
    rule: Rule,
    seed: int = 0,
    sampling: Sampling = PAIRED,
    across: Sequence[str] = (),
    enough: Callable[[Decision, Measurement, Measurement], bool] = decided,
    on_round: Callable[[int], None] = lambda _done: None,
    say: Callable[[str], None] = lambda _message: None,
    start: StartWorker = start_worker,
) -> Comparison:
    """Rounds until a look decides enough or the last one has been taken."""
    trial = Trial(target, (baseline, candidate), seed=seed, sampling=sampling, start=start)
    with lease(target, f"comparing {baseline.name} and {candidate.name}", say=say):
        while True:
            trial.round()
            on_round(trial.done)
            first, second = trial.measurements()
            require_same_identity(second, first, across)
            if trial.done not in rule.looks:
                continue
            decision = decide(log_ratios(second, first, across), rule)
            if enough(decision, first, second) or trial.done >= rule.looks[-1]:
                return judged(first, second, decision, rule)


def judged(
    baseline: Measurement, candidate: Measurement, decision: Decision, rule: Rule
) -> Comparison:
    """Fitness last: an unfit host takes the verdict back, the numbers stay to be looked at."""
    fitness = judge((baseline, candidate))
    if not fitness.fit:
        reason = f"{fitness.reasons[0]} (it would have been {decision.verdict})"
        decision = Decision(UNFIT, reason, decision.ratio, decision.p_value)
    return Comparison(baseline, candidate, decision, fitness, rule, len(baseline.rounds))


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which hypotheses fall when all are tested together (Holm's step-down)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    rejected = [False] * len(p_values)
    for step, index in enumerate(order):
        if p_values[index] > alpha / (len(p_values) - step):
            break
        rejected[index] = True
    return rejected


def _middle(n: int) -> slice:
    """The one or two Walsh averages in the middle of n(n+1)/2."""
    count = n * (n + 1) // 2
    return slice((count - 1) // 2, count // 2 + 1)
