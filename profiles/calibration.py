"""A/A gates: what the gate says when there is nothing to find, and what it could find.

noise floor     median over the gates of (upper bound - 1): a margin below it cannot be passed
                by a network compared with itself
false alarms    share of the gates that FAIL, at the margin and at margin 0, where the
                nominal level is what a sound gate shows
rounds needed   the fewest rounds at which gates drawn from the real rounds (with replacement,
                labels flipped at random, slowed down by the effect) FAIL often enough
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from pathlib import Path
from statistics import median

import numpy as np

from profiles.checks import lower_share, upper_share
from profiles.comparison import log_ratios
from profiles.gate import FAIL, PAIRED, Rule, decide, judged
from profiles.lease import lease
from profiles.rounds import Sampling, StartWorker, Trial, start_worker
from profiles.statistics import fewest_rounds, signed_rank_bound
from profiles.target import Target

EFFECTS = (0.03, 0.05)
POWERS = (0.8, 0.95)
MOST_ROUNDS = 60
DRAWS = 400
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its Clopper-Pearson interval."""

    events: int
    trials: int
    share: float
    lo: float
    hi: float


@dataclass(frozen=True, slots=True)
class RoundsNeeded:
    effect: float
    power: float
    rounds: int | None  # None: more than MOST_ROUNDS


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a target's gate is worth."""

    target: str
    model: str
    gates: int
    rounds_per_gate: int
    noise_floor: float
    round_spread: float  # robust standard deviation of a round's log ratio
    false_alarms: Rate
    false_alarms_at_zero: Rate
    rounds_needed: tuple[RoundsNeeded, ...]
    tripwire_only: bool
    unfit_gates: int
    gates_log_ratios: tuple[tuple[float, ...], ...]


def calibrate(
    target: Target,
    model: Path,
    *,
    gates: int,
    rule: Rule,
    seed: int = 0,
    sampling: Sampling = PAIRED,
    on_gate: Callable[[int], None] = lambda _done: None,
    say: Callable[[str], None] = lambda _message: None,
    start: StartWorker = start_worker,
) -> Calibration:
    """Run whole A/A gates at the rule's last look, the lease given back after each."""
    rows, unfit = [], 0
    rule = replace(rule, looks=rule.looks[-1:])
    for number in range(gates):
        trial = Trial(target, (model, model), seed=seed + number, sampling=sampling, start=start)
        with lease(target, f"calibrating, gate {number + 1} of {gates}", say=say):
            for _ in range(rule.looks[-1]):
                trial.round()
        first, second = trial.measurements()
        logs = log_ratios(second, first)
        unfit += not judged(first, second, decide(logs, rule), rule).fitness.fit
        rows.append(tuple(logs))
        on_gate(number + 1)
    return summarise(rows, rule, target=target.name, model=model.name, unfit=unfit, seed=seed)


def summarise(
    rows: Sequence[Sequence[float]],
    rule: Rule,
    *,
    target: str,
    model: str,
    unfit: int = 0,
    seed: int = 0,
) -> Calibration:
    """From the rounds' log ratios of every gate."""
    at_zero = replace(rule, margin=0.0)
    pool = np.array([value for row in rows for value in row])
    floor = median(exp(signed_rank_bound(row, rule.alpha_per_look)[1]) - 1 for row in rows)
    return Calibration(
        target=target,
        model=model,
        gates=len(rows),
        rounds_per_gate=len(rows[0]),
        noise_floor=floor,
        round_spread=1.4826 * float(np.median(np.abs(pool - np.median(pool)))),
        false_alarms=rate(sum(decide(row, rule).verdict == FAIL for row in rows), len(rows)),
        false_alarms_at_zero=rate(
            sum(decide(row, at_zero).verdict == FAIL for row in rows), len(rows)
        ),
        rounds_needed=tuple(
            RoundsNeeded(effect, power, rounds_needed(pool, rule, effect, power, seed))
            for effect in EFFECTS
            for power in POWERS
        ),
        tripwire_only=floor > rule.margin,
        unfit_gates=unfit,
        gates_log_ratios=tuple(tuple(row) for row in rows),
    )


def rate(events: int, trials: int) -> Rate:
    tail = (1 - CONFIDENCE) / 2
    return Rate(
        events,
        trials,
        events / trials,
        lower_share(events, trials, tail),
        upper_share(events, trials, tail),
    )


def rounds_needed(
    pool: np.ndarray, rule: Rule, effect: float, power: float, seed: int
) -> int | None:
    """Power grows with the rounds, so the smallest number is found by halving."""
    low, high = fewest_rounds(rule.alpha_per_look), MOST_ROUNDS
    if power_at(pool, rule, effect, high, seed) < power:
        return None
    while low < high:
        middle = (low + high) // 2
        if power_at(pool, rule, effect, middle, seed) >= power:
            high = middle
        else:
            low = middle + 1
    return high


def power_at(pool: np.ndarray, rule: Rule, effect: float, rounds: int, seed: int) -> float:
    """How often gates of that many rounds see a slow-down by `effect`."""
    noise = np.random.default_rng(seed)
    drawn = noise.choice(pool, (DRAWS, rounds)) * noise.choice([-1, 1], (DRAWS, rounds))
    rule = replace(rule, looks=(rounds,))
    rows = (drawn + log(1 + effect)).tolist()
    return sum(decide(row, rule).verdict == FAIL for row in rows) / DRAWS
