"""The pictures put every mark and label where it can be read."""

from itertools import combinations

import pytest

from pipeline.reporting.drawing import WIDTH, Mark, Scale, apart, covers, label_span, ticks


def marks(*places: tuple[float, float]) -> list[Mark]:
    return [Mark("candidate", "", x, y, label=f"network {i}") for i, (x, y) in enumerate(places)]


@pytest.mark.parametrize(
    "places",
    [
        [(100, 100), (100, 100)],
        [(100, 100), (160, 104), (220, 98)],
        [(390, 100), (385, 101), (380, 102)],
        [(60, 100), (62, 101), (64, 102), (66, 103)],
    ],
)
def test_labels_cover_no_other_and_stay_inside(places):
    placed = apart(marks(*places))

    assert not any(covers(one, other) for one, other in combinations(placed, 2))
    assert all(0 <= end <= WIDTH for mark in placed for end in label_span(mark))


def test_label_runs_over_no_whisker_where_there_is_another_place():
    one, other = (
        Mark("dense", "", x, 100, y_ends=(60, 140), label="a network") for x in (150, 190)
    )

    assert [mark.label_left for mark in apart([one, other])] == [True, False]


def test_guard_of_the_labels_can_fail():
    one, other = marks((100, 100), (110, 105))

    assert covers(one, other)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.0, 0.39, ["0.0", "0.1", "0.2", "0.3"]),
        (0.0, 5.0, ["0", "1", "2", "3", "4", "5"]),
        (91.7, 93.1, ["92.0", "92.5", "93.0"]),
        (0.0, 0.00012, ["0.00000", "0.00005", "0.00010"]),
        (0.0, 4300.0, ["0", "1000", "2000", "3000", "4000"]),
    ],
)
def test_ticks_are_round_and_inside(low, high, labels):
    found = ticks(Scale(low, high, 50, 350))

    assert [tick.label for tick in found] == labels
    assert all(50 <= tick.at <= 350 for tick in found)
