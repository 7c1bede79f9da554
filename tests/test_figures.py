"""Numbers read the same everywhere, and keep the digits that matter."""

import pytest

from pipeline.reporting import figures
from pipeline.reporting.documents import Latency


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.351, "0.351"),
        (0.0241, "0.0241"),
        (0.000523, "0.00052"),
        (3.0, "3.000"),
        (12.345, "12.35"),
        (250.04, "250.0"),
        (0.0, "0.000"),
    ],
)
def test_milliseconds_keep_three_digits(value, text):
    assert figures.milliseconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.02, "+0.0200"), (-0.02, "\u22120.0200"), (0.0, "0.000")]
)
def test_difference_has_its_sign(value, text):
    assert figures.signed_milliseconds(value) == text


def test_bounds_of_an_interval_have_the_same_decimals():
    assert figures.interval((0.0977, 0.101)) == "0.0977 to 0.1010"


@pytest.mark.parametrize(
    ("value", "text"), [(9_216, "9,216"), (18_400, "18.4 k"), (5.4e6, "5.4 M"), (1.82e9, "1.82 G")]
)
def test_counts_have_a_prefix(value, text):
    assert figures.count(value) == text


def test_speed_up_is_the_inverse_of_the_ratio_with_its_bounds_turned():
    latency = Latency(
        median_ms=0.5,
        interval_ms=(0.4, 0.6),
        ratio=0.5,
        ratio_interval=(0.4, 0.625),
        confidence=0.95,
        rounds=10,
        samples=100,
    )

    assert figures.speed_up(latency) == "2.00 (1.60 to 2.50)"


def test_interval_of_an_accuracy_is_wilsons():
    # 81 of 263: the worked example of Newcombe 1998
    low, high = figures.accuracy_interval(81 / 263, 263)

    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_interval_of_an_accuracy_stays_a_fraction(fraction):
    low, high = figures.accuracy_interval(fraction, 10)

    assert -1e-12 <= low < high <= 1 + 1e-12
