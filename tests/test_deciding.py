"""More rounds for as long as a verdict is open, paid for beforehand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from profiles import deciding
from profiles.deciding import looks_from, measure_until
from profiles.rounds import Sampling
from profiles.statistics import signed_rank_interval
from profiles.target import find_target

CPU = find_target("x86-cpu")


@dataclass
class Rounds:
    """A trial that only counts."""

    done: int = 0

    def round(self) -> None:
        self.done += 1

    def measurements(self) -> list[int]:
        return [self.done]


@pytest.fixture
def trial(monkeypatch) -> Rounds:
    made = Rounds()
    monkeypatch.setattr(deciding, "Trial", lambda *_, **__: made)
    return made


def run(decided) -> None:
    measure_until(CPU, [], decided, looks=looks_from(12), seed=0, sampling=Sampling())


@pytest.mark.parametrize(("at", "rounds"), [(1, 12), (13, 24), (30, 36), (99, 36)])
def test_rounds_end_at_the_first_look_that_decides_or_at_the_last(trial, at, rounds):
    run(lambda found: found[0] >= at)

    assert trial.done == rounds


def test_nobody_looks_in_between(trial):
    looked = []

    run(lambda found: looked.append(found[0]))

    assert looked == [12, 24, 36]
    assert trial.done == 36


def test_the_looks_share_the_error_equally():
    looks = looks_from(12)

    assert looks.rounds == (12, 24, 36)
    assert 3 * (1 - looks.confidence) == pytest.approx(0.05)


@pytest.mark.parametrize(("asked", "first"), [(6, 7), (7, 7), (20, 20)])
def test_a_look_has_the_rounds_that_its_confidence_needs(asked, first):
    looks = looks_from(asked)

    assert looks.rounds[0] == first
    values = list(np.random.default_rng(0).normal(size=first))
    assert signed_rank_interval(values, looks.confidence).confidence >= looks.confidence


def test_the_truth_is_outside_any_look_s_interval_as_seldom_as_promised():
    """400 trials of noise about zero, whose limit is the truth itself: the worst case."""
    rng, looks, wrong = np.random.default_rng(1), looks_from(12), 0
    for _ in range(400):
        noise = list(rng.normal(size=looks.rounds[-1]))
        intervals = [signed_rank_interval(noise[:n], looks.confidence) for n in looks.rounds]
        wrong += any(not one.lo <= 0 <= one.hi for one in intervals)

    assert wrong / 400 < 0.05 + 2 * (0.05 * 0.95 / 400) ** 0.5
