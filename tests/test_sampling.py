from itertools import count

import pytest

from profiles.sampling import ClockError, elapsed_ns, time_block, timer_overhead_ns, warm_up


class Clock:
    """A clock that only `step` moves."""

    def __init__(self, durations_ns):
        self.now = 0
        self.durations_ns = iter(durations_ns)
        self.steps = 0

    def __call__(self):
        return self.now

    def step(self):
        self.steps += 1
        self.now += next(self.durations_ns)


def forever(value):
    return (value for _ in count())


def test_warm_up_waits_for_both_minima():
    clock = Clock(forever(50_000_000))

    done = warm_up(clock.step, at_least_s=1.0, at_most_s=30.0, clock=clock)

    assert done.stable
    assert done.runs >= 10
    assert done.seconds >= 1.0


def test_warm_up_goes_on_while_the_times_still_fall():
    falling = (int(1e8 * (1 + 10 * 0.9**n)) for n in count())
    clock = Clock(falling)

    done = warm_up(clock.step, at_least_s=0.1, at_most_s=60.0, clock=clock)

    assert done.stable
    assert done.runs > 40


def test_warm_up_that_never_settles_ends_at_the_cap_and_says_so():
    jumping = (int(1e8 * (1 + (n // 5) % 2)) for n in count())
    clock = Clock(jumping)

    done = warm_up(clock.step, at_least_s=0.1, at_most_s=20.0, clock=clock)

    assert not done.stable
    assert done.seconds < 21


def test_a_block_has_enough_runs_and_enough_time():
    clock = Clock(forever(1_000_000))

    samples = time_block(clock.step, min_runs=20, min_s=0.05, clock=clock)

    assert len(samples) == 50
    assert set(samples) == {1_000_000}


def test_a_block_of_a_slow_network_ends_early():
    clock = Clock(forever(600_000_000))

    assert len(time_block(clock.step, min_runs=20, min_s=0.05, clock=clock)) == 3


def test_settling_runs_are_not_timed():
    clock = Clock(iter([999, 999, *[5] * 10]))

    samples = time_block(clock.step, min_runs=10, min_s=0, clock=clock)

    assert samples == (5,) * 10


def test_a_clock_that_goes_backwards_gives_no_number():
    clock = Clock(iter([5, 5, 5, -7, 5]))

    with pytest.raises(ClockError, match="went back by 7 ns"):
        time_block(clock.step, min_runs=10, min_s=0, clock=clock)


def test_warm_up_refuses_a_clock_that_goes_backwards():
    clock = Clock(iter([5, -1]))

    with pytest.raises(ClockError):
        warm_up(clock.step, at_least_s=1, at_most_s=2, clock=clock)


def test_reading_the_clock_has_a_price():
    assert 0 < timer_overhead_ns() < 100_000


def test_equal_readings_are_no_error():
    assert elapsed_ns(3, 3) == 0
