"""Borders, costs, precision and plans: how it merges where it may, and why it does not."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from collapse_cases import IMAGE, NORM, collapsed_same, network, operators
from onnx import numpy_helper, parser

from pipeline.collapse import collapse
from pipeline.graphs.loading import normalise


def test_a_transposed_convolution_is_refused_with_its_reason():
    proto = network(
        "h = ConvTranspose (x, w) y = Conv (h, p)", IMAGE, {"w": (3, 4, 2, 2), "p": (2, 4, 1, 1)}
    )

    done = collapsed_same(proto, merge="always")

    assert "ConvTranspose_0 is a ConvTranspose" in done.refusals[0].reason


PADDED_SECOND = "h = Conv (x, w, b) k = Conv <pads=[1,1,1,1]> (h, u, c) y = Conv (k, p)"
PADDED_WEIGHTS = {"w": (5, 3, 1, 1), "b": (5,), "u": (5, 5, 3, 3), "c": (5,), "p": (2, 5, 1, 1)}


def test_a_fixed_size_gets_a_constant_map():
    done = collapsed_same(network(PADDED_SECOND, {"x": ("n", 3, 7, 6)}, PADDED_WEIGHTS))

    assert operators(done) == ["Conv", "Add"]
    assert done.merges[0].border == "constant-map"


def test_a_dynamic_size_gets_a_channel_of_ones():
    proto = network(PADDED_SECOND, {"x": ("n", 3, "h", "w")}, PADDED_WEIGHTS)

    done = collapsed_same(proto, merge="always")

    assert operators(done) == ["Pad", "Conv"]
    assert done.merges[0].border == "ones-channel"


def test_no_bias_needs_no_border():
    text = "h = Conv (x, w) y = Conv <pads=[1,1,1,1]> (h, u, c)"

    done = collapsed_same(network(text, IMAGE, PADDED_WEIGHTS), merge="always")

    assert operators(done) == ["Conv"]
    assert done.merges[0].border == "none"


TWO_3X3 = "h = Conv <pads=[1,1,1,1]> (x, w, b) y = Conv <pads=[1,1,1,1]> (h, u, c)"
WEIGHTS_3X3 = {"w": (3, 3, 3, 3), "b": (3,), "u": (3, 3, 3, 3), "c": (3,)}


def test_a_padded_second_is_refused():
    done = collapsed_same(network(TWO_3X3, IMAGE, WEIGHTS_3X3), merge="always")

    assert done.merges == ()
    assert done.refusals[0].operators == ("Conv_0", "Conv_1")
    assert "Conv_1 pads its input by [1, 1, 1, 1]" in done.refusals[0].reason


def test_padding_moves_when_that_is_asked_for():
    proto = network(TWO_3X3, IMAGE, WEIGHTS_3X3)

    done = collapsed_same(proto, merge="always", move_padding=True)

    assert done.merges[0].border == "moved"
    assert done.merges[0].geometry.pads == (2, 2, 2, 2)


def test_the_kernel_limit_is_a_reason():
    proto = network(TWO_3X3, IMAGE, WEIGHTS_3X3)

    done = collapsed_same(proto, merge="always", move_padding=True, max_kernel=4)

    assert "5x5 kernel, more than --max-kernel 4" in done.refusals[0].reason


def test_the_cheapest_cut_is_not_the_greedy_one():
    """As in an inverted residual: the first pair costs more, the whole of it less."""
    proto = network(
        "h = Conv (x, w) k = Conv <group=24> (h, d) y = Conv (k, p)",
        {"x": ("n", 4, 9, 9)},
        {"w": (24, 4, 1, 1), "d": (24, 1, 3, 3), "p": (4, 24, 1, 1)},
    )

    done = collapsed_same(proto)

    assert [merged.operators for merged in done.merges] == [("Conv_0", "Conv_1", "Conv_2")]


def test_a_merge_that_costs_more_is_refused_with_both_costs():
    text = "h = Conv (x, w) y = Conv (h, u)"
    proto = network(text, {"x": ("n", 3, 20, 20)}, WEIGHTS_3X3)

    done = collapsed_same(proto)

    assert done.merges == ()
    macs = 25 * 9 * 16**2, 9 * 9 * (18**2 + 16**2)
    assert done.refusals[0].reason == (
        f"one 5x5 operator would cost {macs[0]:,} MACs, apart {macs[1]:,}"
    )


def test_a_shared_weight_is_not_changed_in_place():
    proto = network(
        "h = Conv (x, w, b) k = Mul (h, s) r = Relu (k) y = Conv (r, w, b)",
        IMAGE,
        {"w": (3, 3, 1, 1), "b": (3,), "s": (3, 1, 1)},
    )
    source = normalise(ir.from_proto(proto))

    done = collapsed_same(proto)

    kept = done.model.graph.initializers["w"].const_value
    original = source.graph.initializers["w"].const_value
    assert kept is not None
    assert original is not None
    np.testing.assert_array_equal(kept.numpy(), original.numpy())


def test_half_precision_is_composed_in_double_and_rounded_once():
    generator = np.random.default_rng(0)
    w, u = (generator.standard_normal((64, 64)).astype(np.float16) for _ in range(2))
    text = '<ir_version: 8, opset_import: ["" : 20]> g (float16[n,64] x) => (float16[n,64] y)'
    proto = parser.parse_model(text + "{ h = MatMul (x, w) y = MatMul (h, u) }")
    proto.graph.initializer.extend(
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(u, "u")]
    )

    done = collapse(normalise(ir.from_proto(proto)))

    (weight,) = done.model.graph.initializers.values()
    assert weight.const_value is not None
    expected = (w.astype(np.float64) @ u.astype(np.float64)).astype(np.float16)
    np.testing.assert_array_equal(weight.const_value.numpy(), expected)


@pytest.mark.parametrize("opset", range(13, 25))
def test_every_supported_opset_collapses(opset):
    # the reference evaluator trains the batch norm of opset 13
    norm = f"{NORM} (h, s, c, m, v)" if opset > 13 else "Identity (h)"
    proto = network(
        f"h = Conv (x, w, b) n = {norm} k = Conv <pads=[1,1,1,1]> (n, u)"
        "g = GlobalAveragePool (k) f = Flatten (g) y = Gemm (f, q)",
        {"x": ("n", 3, 7, 6)},
        {"w": (5, 3, 1, 1), "b": (5,), "u": (5, 5, 3, 3), "s": (5,), "c": (5,), "m": (5,),
         "v": (5,), "q": (5, 2)},
        opset=opset,
    )  # fmt: skip

    done = collapsed_same(proto, merge="always")

    assert done.merges
    onnx.checker.check_model(ir.to_proto(done.model))


def test_a_plan_merges_what_it_names_and_nothing_else():
    proto = network(
        "h = Conv (x, w) k = Conv (h, u) y = Conv (k, p)",
        IMAGE,
        {"w": (3, 3, 1, 1), "u": (3, 3, 1, 1), "p": (3, 3, 1, 1)},
    )

    done = collapsed_same(proto, merge=[["u", "p"]])

    assert [merged.weights for merged in done.merges] == [("u", "p")]
    assert done.refusals[0].reason == "the plan keeps them apart"


def test_what_the_body_of_an_if_reads_is_a_barrier():
    proto = network(
        "h = Conv (x, w) y = If (c) <then_branch = t () => (double[] p) { p = Mul (h, s) },"
        "else_branch = e () => (double[] q) { q = Conv (h, w) }>",
        {**IMAGE},
        {"w": (3, 3, 1, 1), "s": (3, 1, 1)},
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "c"))

    done = collapsed_same(proto, merge="always")

    assert operators(done) == ["Conv", "If"]
    assert done.refusals[0].reason == "h is read inside the body of another node"


def test_padding_moves_in_front_of_a_channels_last_matrix_too():
    proto = network(
        TWO_3X3.replace("y =", "k =")
        + "t = Transpose <perm=[0,2,3,1]> (k) m = MatMul (t, q) y = Identity (m)",
        IMAGE,
        {**WEIGHTS_3X3, "q": (3, 2)},
    )

    done = collapsed_same(proto, merge="always", move_padding=True)

    assert operators(done) == ["Conv", "Transpose"]
    assert done.merges[0].border == "moved"


def test_a_bias_per_row_is_no_bias():
    proto = network(
        "h = Gemm (x, w, b) y = Gemm (h, u)", {"x": (4, 3)}, {"w": (3, 4), "b": (4, 1), "u": (4, 2)}
    )

    assert operators(collapsed_same(proto, merge="always")) == ["Gemm", "Gemm"]


def test_a_zero_per_channel_scale_is_no_trouble():
    """A dead neuron's stand-in is 0 z + 0."""
    proto = network(
        "h = Conv (x, w, b) k = Mul (h, s) y = Conv (k, p)",
        IMAGE,
        {"w": (4, 3, 2, 2), "b": (4,), "p": (3, 4, 1, 1)},
    )
    scale = np.array([0.0, 1.0, 0.0, 0.5]).reshape(4, 1, 1)
    proto.graph.initializer.append(numpy_helper.from_array(scale, "s"))

    assert operators(collapsed_same(proto)) == ["Conv"]


@pytest.mark.parametrize("size", [(64, 64), ("h", "w")], ids=["fixed", "dynamic"])
def test_a_dynamic_size_is_weighed_like_a_fixed_one(size):
    """The stride makes the second cheap, so that the merged 3x3 costs less than the first alone."""
    proto = network(
        "h = Conv (x, w) y = Conv <strides=[2,2]> (h, u)",
        {"x": (1, 4, *size)},
        {"w": (8, 4, 3, 3), "u": (24, 8, 1, 1)},
    )

    done = collapsed_same(proto)

    assert [merged.macs_after for merged in done.merges] == [31 * 31 * 24 * 4 * 9]


@pytest.mark.parametrize("size", [(64, 64), ("h", "w")], ids=["fixed", "dynamic"])
def test_a_dynamic_size_is_refused_like_a_fixed_one(size):
    proto = network(
        "h = Conv <strides=[2,2]> (x, w) y = Conv (h, u)",
        {"x": (1, 4, *size)},
        {"w": (8, 4, 3, 3), "u": (24, 8, 1, 1)},
    )

    assert collapsed_same(proto).merges == ()
