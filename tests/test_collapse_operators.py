"""One kind or layout of operator at a time: what merges, into what, and that it is the same."""

from __future__ import annotations

import pytest
from collapse_cases import IMAGE, NORM, collapsed_same, network, operators, with_sizes


def test_one_dimensional_convolutions_merge():
    proto = network(
        "h = Conv <pads=[2,1], strides=[2]> (x, w, b) y = Conv <dilations=[2]> (h, u)",
        {"x": ("n", 3, 15)},
        {"w": (4, 3, 4), "b": (4,), "u": (2, 4, 2)},
    )

    done = collapsed_same(proto, merge="always", max_kernel=8)

    assert operators(done) == ["Conv"]
    assert done.merges[0].geometry.kernel == (8,)


def test_three_dimensional_convolutions_merge():
    proto = network(
        "h = Conv <pads=[1,1,1,1,1,1]> (x, w) y = Conv (h, u)",
        {"x": ("n", 2, 5, 4, 5)},
        {"w": (2, 2, 3, 2, 3), "u": (2, 2, 1, 2, 1)},
    )

    assert operators(collapsed_same(proto, merge="always")) == ["Conv"]


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2])
def test_automatic_padding_is_understood(mode, stride):
    proto = network(
        f'h = Conv <auto_pad="{mode}", strides=[{stride},{stride}]> (x, w, b) y = Conv (h, u)',
        IMAGE,
        {"w": (4, 3, 2, 3), "b": (4,), "u": (2, 4, 2, 2)},
    )

    assert operators(collapsed_same(proto, merge="always")) == ["Conv"]


@pytest.mark.parametrize(("groups", "result"), [((1, 4), 1), ((4, 4), 4), ((2, 4), 2), ((4, 1), 1)])
def test_groups_of_the_result_are_the_common_divisor(groups, result):
    first, second = groups
    proto = network(
        f"h = Conv <group={first}, pads=[1,1,1,1]> (x, w, b) y = Conv <group={second}> (h, u)",
        {"x": ("n", 4, 7, 7)},
        {"w": (4, 4 // first, 3, 3), "b": (4,), "u": (4, 4 // second, 2, 2)},
    )

    done = collapsed_same(proto, merge="always")

    assert done.merges[0].geometry.groups == result


@pytest.mark.parametrize(
    "text",
    [
        f"h = Conv (x, w) y = {NORM} (h, s, c, m, v)",
        f"h = {NORM} (x, s3, c3, m3, v3) y = Conv (h, w, b)",
        "h = Conv (x, w, b) k = Mul (h, s4) y = Sub (c4, k)",
        "h = Div (x, v33) k = Add (h, c33) y = Conv (k, w)",
        "h = Dropout (x) k = Identity (h) y = Conv (k, w)",
    ],
)
def test_what_scales_channels_goes_into_the_convolution(text):
    proto = network(
        text,
        IMAGE,
        {
            "w": (4, 3, 2, 2), "b": (4,), "s": (4,), "c": (4,), "m": (4,), "v": (4,),
            "s3": (3,), "c3": (3,), "m3": (3,), "v3": (3,), "s4": (4, 1, 1), "c4": (1, 4, 1, 1),
            "v33": (3, 1, 1), "c33": (1, 3, 1, 1),
        },
    )  # fmt: skip

    done = collapsed_same(proto)

    if text.startswith(("h = Div", f"h = {NORM}")):
        assert operators(done)[-1] == "Conv"
    assert operators(done).count("Conv") == 1
    assert len(operators(done)) <= 2


def test_a_norm_of_another_axis_stays():
    proto = network(
        f"h = MatMul (x, w) y = {NORM} (h, s, c, m, v)",
        {"x": (2, 4, 4)},
        {"w": (4, 4), "s": (4,), "c": (4,), "m": (4,), "v": (4,)},
    )

    assert operators(collapsed_same(proto)) == ["MatMul", "BatchNormalization"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("h = Gemm <transB=1> (x, wt, b) y = Gemm (h, u)", ["Gemm"]),
        ("h = Gemm <alpha=0.5, beta=2.0> (x, w, b) y = Gemm <transB=1> (h, ut, c)", ["Gemm"]),
        ("p = MatMul (x, w) h = Add (b, p) q = MatMul (h, u) y = Add (q, c)", ["MatMul", "Add"]),
        ("t = Transpose <perm=[1,0]> (wt) h = MatMul (x, t) y = MatMul (h, u)", ["MatMul"]),
    ],
)
def test_matrices_of_every_layout_merge(text, left):
    weights = {"w": (4, 9), "wt": (9, 4), "b": (9,), "u": (9, 3), "ut": (3, 9), "c": (3,)}

    done = collapsed_same(network(text, {"x": (5, 4)}, weights), merge="always")

    assert operators(done) == left


def test_matrices_merge_under_leading_axes():
    proto = network(
        "p = MatMul (x, w) h = Add (p, b) y = MatMul (h, u)",
        {"x": ("n", 5, 7, 4)},
        {"w": (4, 8), "b": (8,), "u": (8, 3)},
    )

    assert operators(collapsed_same(proto)) == ["MatMul", "Add"]


def test_a_reshape_of_leading_axes_is_transparent():
    proto = with_sizes(
        network(
            "h = MatMul (x, w) k = Reshape (h, sizes) y = MatMul (k, u)",
            {"x": ("n", 6, 4)},
            {"w": (4, 8), "u": (8, 3)},
        ),
        sizes=[-1, 2, 3, 8],
    )

    assert operators(collapsed_same(proto)) == ["MatMul", "Reshape"]


def test_a_reshape_that_mixes_channels_is_a_barrier():
    proto = with_sizes(
        network(
            "h = MatMul (x, w) k = Reshape (h, sizes) y = MatMul (k, u)",
            {"x": ("n", 6, 4)},
            {"w": (4, 8), "u": (4, 3)},
        ),
        sizes=[-1, 12, 4],
    )

    done = collapsed_same(proto)

    assert operators(done) == ["MatMul", "Reshape", "MatMul"]
    assert any("Reshape Reshape_1 follows, behind which" in kept.reason for kept in done.refusals)


def test_channels_last_matrices_merge_into_the_convolution():
    proto = with_sizes(
        network(
            "h = Conv <strides=[2,2]> (x, w, b) k = Reshape (h, sizes)"
            "t = Transpose <perm=[0,2,1]> (k) m = MatMul (t, u) y = Mul (m, s)",
            {"x": ("n", 3, 8, 8)},
            {"w": (6, 3, 2, 2), "b": (6,), "u": (6, 2), "s": (2,)},
        ),
        sizes=[-1, 6, 16],
    )

    assert operators(collapsed_same(proto)) == ["Conv", "Reshape", "Transpose"]


def test_a_batch_in_the_channel_axis_is_not_mistaken_for_channels():
    proto = with_sizes(
        network(
            "h = Conv (x, w) k = Reshape (h, sizes) m = MatMul (k, u) y = Identity (m)",
            {"x": ("n", 3, 1, 5)},
            {"w": (6, 3, 1, 1), "u": (5, 2)},
        ),
        sizes=[-1, 5],
    )

    assert operators(collapsed_same(proto)) == ["Conv", "Reshape", "MatMul"]
