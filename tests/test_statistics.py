import math

import numpy as np
import pytest
import scipy.stats

from profiles.gate import FAIL, PASS, Rule, decide, holm, planned
from profiles.statistics import (
    binomial_below,
    fewest_rounds,
    median_interval,
    quantile_interval,
    samples_needed,
    sign_test_p,
    signed_rank_bound,
    signed_rank_counts,
    signed_rank_interval,
    signed_rank_p,
    upper_quantile,
)


@pytest.mark.parametrize("n", [1, 5, 12])
def test_every_sign_pattern_is_counted_once(n):
    assert sum(signed_rank_counts(n)) == 2**n


@pytest.mark.parametrize("seed", range(5))
def test_the_p_value_is_scipys_exact_one(seed):
    values = np.random.default_rng(seed).normal(0.3, 1, 11)

    ours = signed_rank_p(values.tolist())

    _, theirs = scipy.stats.wilcoxon(values, alternative="greater", method="exact")
    assert ours == pytest.approx(theirs)


def test_bound_and_p_value_agree_to_the_last_rank():
    """Over samples of every p value from 2^-12 to a half, so that one Walsh average more shows."""
    noise, alpha = np.random.default_rng(1), 0.05
    close = set()
    for _ in range(400):
        values = noise.normal(noise.uniform(0, 1), 1, 12).tolist()
        p = signed_rank_p(values)
        low, high = signed_rank_bound(values, alpha)
        mirrored = signed_rank_bound([-value for value in values], alpha)

        assert (low > 0) == (p <= alpha)
        assert (low, high) == (-mirrored[1], -mirrored[0])
        close.add(round(p * 2**12))

    levels = np.cumsum(signed_rank_counts(12))
    last = int(levels[levels <= alpha * 2**12][-1])
    assert {last, int(levels[levels > last][0])} <= close


def test_the_estimate_is_the_median_of_walsh_averages():
    assert signed_rank_interval([1.0, 2.0, 9.0]).value == pytest.approx(3.5)


def test_too_few_values_give_all_they_have_and_say_how_sure():
    estimate = signed_rank_interval([1.0, 2.0, 3.0], 0.95)

    assert (estimate.lo, estimate.hi, estimate.confidence) == (1.0, 3.0, 0.75)


@pytest.mark.parametrize(("alpha", "rounds"), [(0.01, 7), (0.05, 5), (0.0033, 9)])
def test_fewer_rounds_cannot_reach_the_level(alpha, rounds):
    assert fewest_rounds(alpha) == rounds
    assert signed_rank_bound([1.0] * rounds, alpha) == (1.0, 1.0)
    assert signed_rank_bound([1.0] * (rounds - 1), alpha) == (-math.inf, math.inf)


@pytest.mark.parametrize(("n", "q"), [(10, 0.5), (500, 0.99), (5000, 0.999)])
def test_the_binomial_is_scipys(n, q):
    theirs = scipy.stats.binom.cdf(np.arange(n + 1), n, q)

    np.testing.assert_allclose(binomial_below(n, q), theirs, atol=1e-9)


@pytest.mark.parametrize(
    ("q", "confidence", "needed"),
    [
        (0.9, 0.95, 29),
        (0.95, 0.95, 59),
        (0.99, 0.95, 299),
        (0.999, 0.95, 2995),
        (0.9, 0.99, 44),
        (0.95, 0.99, 90),
        (0.99, 0.99, 459),
        (0.999, 0.99, 4603),
    ],
)
def test_samples_needed_for_a_tail_are_the_known_ones(q, confidence, needed):
    assert samples_needed(q, confidence) == needed
    assert upper_quantile(range(needed), q, confidence) == needed - 1
    assert upper_quantile(range(needed - 1), q, confidence) is None


def test_one_sided_binomial_test_is_scipys():
    theirs = scipy.stats.binomtest(12, 17, 0.5, alternative="greater").pvalue

    assert sign_test_p(12, 5) == pytest.approx(theirs)


@pytest.mark.parametrize("draw", ["exponential", "standard_cauchy", "standard_normal"])
@pytest.mark.parametrize(("q", "n"), [(0.5, 10), (0.9, 80), (0.99, 600)])
def test_quantile_intervals_cover_as_often_as_they_say(draw, q, n):
    noise = np.random.default_rng(0)
    law = {"exponential": scipy.stats.expon, "standard_cauchy": scipy.stats.cauchy,
           "standard_normal": scipy.stats.norm}[draw]  # fmt: skip
    truth, trials = law.ppf(q), 600

    covered = 0
    for _ in range(trials):
        estimate = quantile_interval(getattr(noise, draw)(size=n).tolist(), q, 0.95)
        covered += estimate.lo <= truth <= estimate.hi

    spread = math.sqrt(0.05 * 0.95 / trials)
    assert covered / trials > 0.95 - 3 * spread


@pytest.mark.parametrize(("n", "q"), [(10, 0.5), (20, 0.5), (80, 0.9), (1000, 0.99)])
def test_each_end_of_a_quantile_errs_at_most_at_half_and_is_the_tightest_that_does(n, q):
    law = scipy.stats.binom(n, q)

    ranks = quantile_interval([float(rank) for rank in range(1, n + 1)], q, 0.95)

    low, high = int(ranks.lo), int(ranks.hi)
    assert law.cdf(low - 1) <= 0.025 < law.cdf(low)
    assert law.sf(high - 1) <= 0.025 < law.sf(high - 2)


def test_the_median_of_few_rounds_has_the_sign_tests_confidence():
    estimate = median_interval([3.0, 1.0, 2.0], 0.95)

    assert (estimate.value, estimate.lo, estimate.hi) == (2.0, 1.0, 3.0)
    assert estimate.confidence == pytest.approx(0.75)


def simulated_rounds(kind: str, trials: int, rounds: int, noise, effect: float = 0.0):
    """Log ratios of rounds whose runs are noisy in the given way, A and B alike.

    Every round is six pairs of blocks of 20 runs under one process effect; the round's value is
    the median of the pairs' log ratios of medians.
    """
    size = (trials, rounds, 6, 2, 20)
    if kind == "skewed":
        runs = noise.lognormal(0, 0.3, size)
    elif kind == "heavy-tailed":
        runs = 1 + 0.02 * np.abs(noise.standard_t(1.5, size))
    else:  # autocorrelated: a random walk through the round's blocks, as a drifting clock
        steps = noise.normal(0, 0.01, size).reshape(trials, rounds, -1)
        runs = np.exp(np.cumsum(steps, axis=-1)).reshape(size)
    runs = runs * noise.lognormal(0, 0.5, (trials, rounds, 1, 1, 1))
    medians = np.log(np.median(runs, axis=-1))
    first_is_a = noise.random((trials, rounds, 6)) < 0.5  # the random order of the pair
    differences = medians[..., 1] - medians[..., 0]
    return np.median(np.where(first_is_a, differences, -differences), axis=-1) + effect


KINDS = ["skewed", "heavy-tailed", "autocorrelated"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_level_is_nominal_at_the_margin(kind):
    """At a true slow-down of exactly the margin, FAIL errs as often as the exact test says."""
    trials, alpha = 3000, 0.05
    rule = Rule(margin=0.02, alpha=alpha, looks=(10,))
    rounds = simulated_rounds(kind, trials, 10, np.random.default_rng(1), math.log(1.02))

    failed = np.mean([decide(row, rule).verdict == FAIL for row in rounds.tolist()])

    counts = np.cumsum(signed_rank_counts(10)) / 2**10
    attained = counts[counts <= alpha][-1]
    assert abs(failed - attained) < 3.5 * math.sqrt(attained * (1 - attained) / trials)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_pass_is_as_rare_as_a_wrong_fail(kind):
    trials = 2000
    rule = Rule(margin=0.02, alpha=0.05, looks=(10,))
    slower = simulated_rounds(kind, trials, 10, np.random.default_rng(2), math.log(1.0201))

    passed = np.mean([decide(row, rule).verdict == PASS for row in slower.tolist()])

    assert passed < 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)


@pytest.mark.parametrize("kind", KINDS)
def test_looking_more_than_once_keeps_the_level(kind):
    trials, alpha = 1500, 0.05
    rule = planned(0.02, alpha, 20)
    rounds = simulated_rounds(kind, trials, 20, np.random.default_rng(3), math.log(1.02))

    failed = sum(
        any(decide(row[:look], rule).verdict == FAIL for look in rule.looks)
        for row in rounds.tolist()
    )

    assert len(rule.looks) == 3
    assert failed / trials < alpha + 3 * math.sqrt(alpha * (1 - alpha) / trials)


def test_the_level_guard_can_fail():
    """Stopping at the first look that is significant, unpaid for, errs more often."""
    trials, alpha = 1500, 0.05
    greedy = Rule(margin=0.02, alpha=alpha, looks=(1,))  # one look's worth, taken many times
    rounds = simulated_rounds("skewed", trials, 20, np.random.default_rng(3), math.log(1.02))

    failed = sum(
        any(decide(row[:look], greedy).verdict == FAIL for look in range(5, 21))
        for row in rounds.tolist()
    )

    assert failed / trials > alpha + 3 * math.sqrt(alpha * (1 - alpha) / trials)


@pytest.mark.parametrize("kind", KINDS)
def test_signed_rank_intervals_cover_as_often_as_they_say(kind):
    trials = 1500
    rounds = simulated_rounds(kind, trials, 12, np.random.default_rng(4), 0.1)

    intervals = [signed_rank_interval(row, 0.95) for row in rounds.tolist()]

    covered = np.mean([one.lo <= 0.1 <= one.hi for one in intervals])
    level = intervals[0].confidence
    assert abs(covered - level) < 3.5 * math.sqrt(level * (1 - level) / trials)


def test_power_grows_with_the_effect_and_with_the_rounds():
    noise = np.random.default_rng(5)
    power = {}
    for effect in (0.05, 0.1, 0.4):
        for looks in ((10,), (20,)):
            rule = Rule(margin=0.02, alpha=0.01, looks=looks)
            rounds = simulated_rounds("skewed", 300, looks[0], noise, math.log(1 + effect))
            power[effect, looks[0]] = np.mean(
                [decide(row, rule).verdict == FAIL for row in rounds.tolist()]
            )

    assert power[0.05, 10] < power[0.1, 10] < power[0.4, 10]
    assert power[0.1, 10] < power[0.1, 20]
    assert power[0.4, 10] > 0.99


def test_holm_is_the_step_down_procedure():
    assert holm([0.01, 0.04, 0.03, 0.005], 0.05) == [True, False, False, True]


def test_holm_keeps_the_family_wise_level():
    noise = np.random.default_rng(6)
    wrong = np.mean([any(holm(noise.random(8).tolist(), 0.05)) for _ in range(4000)])

    assert wrong < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4000)
