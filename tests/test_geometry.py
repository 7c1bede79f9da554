"""The shape arithmetic against brute force."""

from __future__ import annotations

from itertools import product

import pytest

from pipeline.graphs.geometry import Geometry, compose, matrix, refit, shortcut_tap


def line(kernel, stride=1, dilation=1, pads=(0, 0), groups=1, channels=(4, 4)) -> Geometry:
    return Geometry((kernel,), (stride,), (dilation,), pads, groups, *channels)


def length(geometry: Geometry, size: int) -> int:
    reach = geometry.dilations[0] * (geometry.kernel[0] - 1) + 1
    return (size + sum(geometry.pads) - reach) // geometry.strides[0] + 1


def reads(geometry: Geometry, position: int) -> set[int]:
    start = geometry.strides[0] * position - geometry.pads[0]
    return {start + geometry.dilations[0] * tap for tap in range(geometry.kernel[0])}


CASES = list(product([1, 2, 3], [1, 2, 3], [1, 2], [1, 2], [1, 2], [1, 2], [(0, 0), (1, 2)]))


@pytest.mark.parametrize(("k1", "k2", "s1", "s2", "d1", "d2", "pads"), CASES)
def test_the_composed_operator_reads_what_the_two_read(k1, k2, s1, s2, d1, d2, pads):
    first = line(k1, s1, d1, pads)
    second = line(k2, s2, d2, pads)

    merged = compose(first, second)

    for position in range(4):
        through = set().union(*(reads(first, middle) for middle in reads(second, position)))
        assert through <= reads(merged, position)
        assert {min(through), max(through)} <= reads(merged, position)
        assert len(reads(merged, position)) == merged.kernel[0]


@pytest.mark.parametrize(("k1", "k2", "s1", "s2", "d1", "d2", "pads"), CASES)
def test_moved_padding_keeps_the_output_size(k1, k2, s1, s2, d1, d2, pads):
    first, second = line(k1, s1, d1, pads), line(k2, s2, d2, pads)

    merged = compose(first, second)

    for size in range(12, 20):
        assert length(merged, size) == length(second, length(first, size))


def test_two_basic_3x3_make_a_5x5_and_a_strided_one_a_7x7():
    padded = line(3, pads=(1, 1))

    assert compose(padded, padded).kernel == (5,)
    assert compose(line(3, 2, pads=(1, 1)), padded).kernel == (7,)
    assert compose(line(3, 2, pads=(1, 1)), padded).pads == (3, 3)


@pytest.mark.parametrize("kernel", [3, 1])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_refit_keeps_stride_and_output_size(kernel, stride):
    merged = compose(line(3, stride, pads=(1, 1)), line(3, pads=(1, 1)))

    smaller = refit(merged, kernel)

    assert smaller is not None
    assert smaller.kernel == (kernel,)
    assert [length(smaller, n) for n in range(8, 16)] == [length(merged, n) for n in range(8, 16)]


def test_a_refit_needs_padding_to_give_and_an_odd_difference_has_no_centre():
    assert refit(line(5), 3) is None
    assert refit(line(4, pads=(1, 1)), 3) is None
    assert refit(matrix(3, 4), 1) is None


def test_the_shortcut_lies_under_the_padding_tap():
    assert shortcut_tap(line(5, pads=(1, 3)), None) == (1,)
    assert "no tap" in shortcut_tap(line(3, pads=(3, 3)), None)
    assert "stride" in shortcut_tap(line(3, 2, pads=(1, 1)), None)
