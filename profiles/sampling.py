"""Warm up, then time blocks of runs; knows no model and no runtime.

A block is a handful of consecutive runs timed one by one. What happened around it (throttling,
steal, time spent waiting for the core) is read before and after, and a block that was disturbed
says so; it is for the caller to repeat it. Nothing is deleted inside a block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter_ns

Step = Callable[[], None]
Clock = Callable[[], int]

AGREEMENT = 0.02  # the last three warm-up windows' medians lie this close together
WINDOW_RUNS = 5
SLOW_BLOCK_S = 0.3  # past this a block ends with FEWEST_RUNS: its median is precise enough
FEWEST_RUNS = 3
SLOW_SETTLE_S = 0.1  # past this one settling run is enough: a slow network refills in one


class ClockError(RuntimeError):
    """The clock went backwards, so no duration can be trusted."""


@dataclass(frozen=True, slots=True)
class WarmUp:
    """How long it took until the times agreed, if they did."""

    runs: int
    seconds: float
    stable: bool


def warm_up(
    step: Step,
    *,
    at_least_s: float,
    at_most_s: float,
    at_least_runs: int = 10,
    clock: Clock = perf_counter_ns,
) -> WarmUp:
    """Run until both minima are reached and three windows agree, or the cap is.

    A network so slow that the cap comes before the least number of runs gets FEWEST_RUNS.
    """
    started = clock()
    runs = 0
    windows: list[float] = []
    window: list[int] = []
    window_ns = 0.0
    while True:
        before = clock()
        step()
        after = clock()
        window.append(elapsed_ns(before, after))
        runs += 1
        seconds = (after - started) / 1e9
        window_ns += window[-1]
        if len(window) >= WINDOW_RUNS and window_ns >= at_least_s * 1e9 / 10:
            windows.append(median(window))
            window, window_ns = [], 0.0
        if runs >= at_least_runs and seconds >= at_least_s:
            last = windows[-3:]
            if len(last) == 3 and max(last) - min(last) <= AGREEMENT * min(last):
                return WarmUp(runs, seconds, True)
        if seconds >= at_most_s and runs >= min(at_least_runs, FEWEST_RUNS):
            return WarmUp(runs, seconds, False)


def time_block(
    step: Step,
    *,
    min_runs: int,
    min_s: float,
    settle_runs: int = 2,
    clock: Clock = perf_counter_ns,
) -> tuple[int, ...]:
    """Nanoseconds of each run; the first `settle_runs` refill the caches and are not timed."""
    started = clock()
    for _ in range(settle_runs):
        step()
        if elapsed_ns(started, clock()) >= SLOW_SETTLE_S * 1e9:
            break
    samples: list[int] = []
    total_ns = 0
    while True:
        before = clock()
        step()
        after = clock()
        taken = elapsed_ns(before, after)
        samples.append(taken)
        total_ns += taken
        if total_ns >= min_s * 1e9 and len(samples) >= min_runs:
            return tuple(samples)
        if total_ns >= SLOW_BLOCK_S * 1e9 and len(samples) >= FEWEST_RUNS:
            return tuple(samples)


def timer_overhead_ns(clock: Clock = perf_counter_ns, readings: int = 200) -> int:
    """The median time between two readings of the clock with nothing in between."""
    gaps = []
    for _ in range(readings):
        before = clock()
        gaps.append(elapsed_ns(before, clock()))
    return int(median(gaps))


def elapsed_ns(before: int, after: int) -> int:
    """The duration, or an error when time ran backwards."""
    if after < before:
        raise ClockError(f"the clock went back by {before - after} ns during a run")
    return after - before
