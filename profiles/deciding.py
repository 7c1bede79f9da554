"""Measure until an interval lies on one side of a limit, with every look paid for beforehand.

With L planned looks at level a each look's interval has the confidence 1 - a / L: by Bonferroni the
chance that any of them misses the truth stays below a, however many were taken. A look needs so
many rounds that its interval can have that confidence: the signed-rank one, and the median's, miss
with probability 2^(1-n) at least after n rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from profiles.lease import lease
from profiles.measurement import Measurement
from profiles.rounds import Sampling, StartWorker, Trial, start_worker
from profiles.statistics import fewest_rounds
from profiles.target import Target

ALPHA = 0.05  # two-sided, over all looks
TIMES = (1, 2, 3)  # the first look's rounds


@dataclass(frozen=True, slots=True)
class Looks:
    """After how many rounds to look, and the confidence of the interval at each look."""

    rounds: tuple[int, ...]
    confidence: float


def looks_from(rounds: int, *, alpha: float = ALPHA, times: Sequence[int] = TIMES) -> Looks:
    """The first look after `rounds`, or after as many as its confidence needs."""
    each = alpha / len(times)
    first = max(rounds, fewest_rounds(each / 2))
    return Looks(tuple(first * n for n in times), 1 - each)


def measure_until(
    target: Target,
    paths: Sequence[Path],
    decided: Callable[[Sequence[Measurement]], bool],
    *,
    looks: Looks,
    seed: int,
    sampling: Sampling,
    start: StartWorker = start_worker,
) -> list[Measurement]:
    """Every artifact beside `paths[0]`, until a look has decided or the last one was taken."""
    trial = Trial(target, paths, seed=seed, sampling=sampling, start=start)
    with lease(target, f"measuring {len(paths)} networks"):
        while True:
            trial.round()
            if trial.done not in looks.rounds:
                continue
            found = trial.measurements()
            if decided(found) or trial.done >= looks.rounds[-1]:
                return found
