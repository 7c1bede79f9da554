"""Does it meet a budget? Rounds until that is decided, with extra looks paid for beforehand.

    5ms     the interval of the median over rounds (sign test) lies on one side of the limit
    0.6x    the interval of the paired ratio (signed rank) does, free of the host's drift

Each one-sided bound has level alpha / looks, so by Bonferroni the chance of a wrong PASS over all
looks stays below alpha, and so does that of a wrong FAIL.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path

from profiles.budget import Budget
from profiles.comparison import log_ratios, ratio
from profiles.fitness import Fitness, judge
from profiles.gate import FAIL, INCONCLUSIVE, PASS, UNFIT, Rule
from profiles.lease import lease
from profiles.measurement import Measurement
from profiles.rounds import Sampling, StartWorker, Trial, start_worker
from profiles.statistics import (
    Estimate,
    fewest_rounds,
    quantile_interval,
    sign_test_p,
    signed_rank_p,
)
from profiles.target import Target
from runtimes.errors import InputError

TIMES = (1, 2, 3)  # the first look's rounds


def looks_from(rounds: int, *, alpha: float) -> Rule:
    """The first look after `rounds`, or after as many as its share of alpha needs."""
    first = max(rounds, fewest_rounds(alpha / len(TIMES)))
    return Rule(margin=0.0, alpha=alpha, looks=tuple(first * n for n in TIMES))


@dataclass(frozen=True, slots=True)
class BudgetDecision:
    """The verdict of one look, or of the last one; `value` is to be at most `limit`."""

    verdict: str
    reason: str
    value: Estimate  # its ends are the two one-sided bounds; infinite where rounds are too few
    limit: float
    unit: str
    p_value: float | None  # of "not over the budget", corrected for the looks


@dataclass(frozen=True, slots=True)
class Budgeted:
    """What was measured, reference first if there is one, and what follows for the budget."""

    measurements: tuple[Measurement, ...]
    decision: BudgetDecision
    fitness: Fitness
    rounds: int


def measure_against(
    target: Target,
    paths: Sequence[Path],
    budget: Budget,
    *,
    rule: Rule,
    sampling: Sampling,
    seed: int = 0,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    on_round: Callable[[int], None] = lambda _done: None,
    say: Callable[[str], None] = lambda _message: None,
    start: StartWorker = start_worker,
) -> Budgeted:
    """Rounds of the last path, beside the first of two, until a look decides or was the last.

    The rule's looks and alpha count, its margin does not: a budget has none.
    """
    if budget.ratio is not None and len(paths) < 2:
        raise InputError(f"budget {budget.text!r} is relative: it needs a network to be beside")
    trial = Trial(target, paths, seed=seed, sampling=sampling, shapes=shapes, start=start)
    with lease(target, f"measuring against a budget of {budget.text}", say=say):
        while True:
            trial.round()
            on_round(trial.done)
            if trial.done not in rule.looks:
                continue
            found = trial.measurements()
            decision = decide_budget(found[-1], budget, rule, reference=found[0])
            if decision.verdict != INCONCLUSIVE or trial.done >= rule.looks[-1]:
                break
    fitness = judge(found)
    return Budgeted(tuple(found), fit_or_not(decision, fitness), fitness, trial.done)


def decide_budget(
    measured: Measurement,
    budget: Budget,
    rule: Rule,
    *,
    reference: Measurement,
    across: Collection[str] = (),
) -> BudgetDecision:
    """The verdict at one look; `reference` counts for a relative budget alone."""
    looks = len(rule.looks)
    if budget.ratio is None:
        medians = measured.round_medians_ms()
        limit = budget.limit_ms(0.0)
        over = sum(one > limit for one in medians)
        p_value = sign_test_p(over, len(medians) - over)
        value = quantile_interval(medians, 0.5, rule.confidence)
        unit = "ms"
    else:
        limit = budget.ratio
        logs = log_ratios(measured, reference, across)
        p_value = signed_rank_p([one - log(limit) for one in logs])
        value = ratio(measured, reference, rule.confidence, across)
        unit = "x of the baseline"
    return within(
        value, limit, unit, rounds=len(measured.rounds), alpha=rule.alpha_per_look,
        p_value=min(1.0, looks * p_value),
    )  # fmt: skip


def within(
    value: Estimate,
    limit: float,
    unit: str,
    *,
    rounds: int,
    alpha: float,
    p_value: float | None = None,
) -> BudgetDecision:
    """PASS only when the upper bound is inside the budget, FAIL only when the lower is over it."""
    needed = fewest_rounds(alpha)
    slack = 1 - value.value / limit
    if rounds < needed:
        verdict = INCONCLUSIVE
        reason = f"{rounds} rounds cannot decide at alpha {alpha:.2g}: {needed} are needed"
    elif value.hi <= limit:
        verdict, reason = PASS, f"inside the budget with {slack:.1%} to spare"
    elif value.lo > limit:
        verdict, reason = FAIL, f"over the budget by {-slack:.1%}"
    else:
        verdict, reason = INCONCLUSIVE, f"the interval spans the budget after {rounds} rounds"
    return BudgetDecision(verdict, reason, value, limit, unit, p_value)


def fit_or_not(decision: BudgetDecision, fitness: Fitness) -> BudgetDecision:
    """An unfit host takes the verdict back, the numbers stay to be looked at."""
    if fitness.fit:
        return decision
    reason = f"{fitness.reasons[0]} (it would have been {decision.verdict})"
    return BudgetDecision(
        UNFIT, reason, decision.value, decision.limit, decision.unit, decision.p_value
    )
