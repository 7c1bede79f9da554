"""Means, norms, shortcuts and other readers: what merges through them, and what stops there."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from collapse_cases import IMAGE, collapsed_same, network, operators, with_sizes

from pipeline.collapse import collapse
from pipeline.graphs.loading import normalise


@pytest.mark.parametrize("head", ["Gemm (f, u, c)", "MatMul (f, u)"])
@pytest.mark.parametrize(
    "middle",
    [
        "g = GlobalAveragePool (h) f = Flatten (g)",
        "g = ReduceMean <keepdims=1> (h, axes) f = Flatten (g)",
        "f = ReduceMean <keepdims=0> (h, axes)",
        "g = AveragePool <kernel_shape=[8,9]> (h) f = Flatten (g)",
    ],
)
def test_a_pointwise_convolution_folds_through_the_mean_over_space(middle, head):
    proto = with_sizes(
        network(
            f"h = Conv (x, w, b) {middle} y = {head}",
            IMAGE,
            {"w": (20, 3, 1, 1), "b": (20,), "u": (20, 4), "c": (4,)},
        ),
        axes=[2, 3],
    )

    done = collapsed_same(proto)

    assert [op for op in operators(done) if op in {"Conv", "Gemm", "MatMul"}] == ["Gemm"]


@pytest.mark.parametrize("merge", ["always", [["v", "u"]]])
def test_one_pointwise_convolution_goes_behind_the_mean_and_no_more(merge):
    """The one in front of it may be worth more inside a block of its own."""
    proto = network(
        "h = Conv (x, w, b) k = Conv (h, v) g = GlobalAveragePool (k) f = Flatten (g)"
        "y = Gemm (f, u, c)",
        IMAGE,
        {"w": (20, 3, 3, 3), "b": (20,), "v": (6, 20, 1, 1), "u": (6, 4), "c": (4,)},
    )

    done = collapsed_same(proto, merge=merge)

    assert [op for op in operators(done) if op in {"Conv", "Gemm", "MatMul"}] == ["Conv", "Gemm"]


def test_an_average_is_a_depthwise_convolution():
    proto = network(
        "h = AveragePool <kernel_shape=[2,2], strides=[2,2], pads=[1,0,1,0], count_include_pad=1>"
        "(x) y = Conv (h, w)",
        IMAGE,
        {"w": (2, 3, 1, 1)},
    )

    assert operators(collapsed_same(proto, merge="always")) == ["Conv"]


def test_an_average_over_what_is_really_there_is_a_barrier():
    proto = network(
        "h = Conv (x, w) y = AveragePool <kernel_shape=[2,2], pads=[1,1,1,1]> (h)",
        IMAGE,
        {"w": (2, 3, 1, 1)},
    )

    assert operators(collapsed_same(proto, merge="always")) == ["Conv", "AveragePool"]


def test_the_affine_of_a_layer_norm_folds_forward_and_nothing_else():
    proto = network(
        "h = LayerNormalization <epsilon=0.001> (x, s, b) p = MatMul (h, w) y = Add (p, c)",
        {"x": ("n", 5, 6)},
        {"s": (6,), "b": (6,), "w": (6, 3), "c": (3,)},
    )

    done = collapsed_same(proto)

    norm = next(node for node in done.model.graph if node.op_type == "LayerNormalization")
    scale = norm.inputs[1]
    assert scale is not None
    assert scale.const_value is not None
    assert (scale.const_value.numpy() == 1.0).all()
    assert len(norm.inputs) == 2


def test_a_layer_norm_that_feeds_a_shortcut_keeps_its_affine():
    proto = network(
        "h = LayerNormalization (x, s, b) p = MatMul (h, w) q = Relu (p) y = Add (q, h)",
        {"x": ("n", 5, 6)},
        {"s": (6,), "b": (6,), "w": (6, 6)},
    )

    done = collapsed_same(proto)

    assert len(next(iter(done.model.graph)).inputs) == 3


def test_a_post_norm_residual_goes_into_its_matrix():
    proto = network(
        "p = MatMul (x, w) h = Add (p, b) q = MatMul (h, u) k = Add (q, c)"
        "r = Add (k, x) y = LayerNormalization (r, s)",
        {"x": ("n", 5, 6)},
        {"w": (6, 24), "b": (24,), "u": (24, 6), "c": (6,), "s": (6,)},
    )

    assert operators(collapsed_same(proto)) == ["MatMul", "Add", "LayerNormalization"]


def test_the_identity_is_a_dirac_at_the_padding_not_in_the_middle():
    proto = network(
        "h = Conv <pads=[2,1,0,1]> (x, w, b) y = Add (x, h)",
        IMAGE,
        {"w": (3, 3, 3, 3), "b": (3,)},
    )

    assert operators(collapsed_same(proto)) == ["Conv"]


@pytest.mark.parametrize("groups", [1, 3])
def test_a_strided_projection_goes_under_its_tap(groups):
    proto = network(
        f"h = Conv <pads=[1,1,1,1], strides=[2,2], group={groups}> (x, w, b)"
        "k = Conv <strides=[2,2]> (x, p, c) y = Add (h, k)",
        IMAGE,
        {"w": (6, 3 // groups, 3, 3), "b": (6,), "p": (6, 3, 1, 1), "c": (6,)},
    )

    assert operators(collapsed_same(proto, merge="always")) == ["Conv"]


def test_a_shortcut_that_skips_pixels_and_pads_channels_goes_in_too():
    proto = with_sizes(
        network(
            "h = Conv <pads=[1,1,1,1], strides=[2,2]> (x, w)"
            "s = Slice (x, starts, ends, axes, steps) k = Pad (s, pads) y = Add (h, k)",
            {"x": ("n", 3, 8, 10)},
            {"w": (7, 3, 3, 3)},
        ),
        starts=[0, 0], ends=[2**31, 2**31], axes=[2, 3], steps=[2, 2],
        pads=[0, 2, 0, 0, 0, 2, 0, 0],
    )  # fmt: skip

    assert operators(collapsed_same(proto)) == ["Conv"]


def test_nested_shortcuts_merge_inside_out():
    proto = network(
        "a = Conv <pads=[1,1,1,1]> (x, w) b = Add (a, x) c = Conv (b, p) y = Add (x, c)",
        IMAGE,
        {"w": (3, 3, 3, 3), "p": (3, 3, 1, 1)},
    )

    assert operators(collapsed_same(proto)) == ["Conv"]


def test_a_tensor_with_another_reader_is_a_barrier():
    proto = network(
        "h = Conv (x, w) k = Conv (h, p) r = Relu (h) y = Add (k, r)",
        IMAGE,
        {"w": (3, 3, 1, 1), "p": (3, 3, 1, 1)},
    )

    done = collapsed_same(proto, merge="always")

    assert done.merges == ()
    assert done.refusals[0].operators == ("Conv_0",)
    assert done.refusals[0].reason == "h feeds Conv_1, Relu_2"


def test_an_inner_value_that_is_an_output_is_a_barrier():
    proto = network(
        "h = Conv (x, w) y = Conv (h, p)", IMAGE, {"w": (3, 3, 1, 1), "p": (3, 3, 1, 1)}
    )
    proto.graph.output.append(
        onnx.helper.make_tensor_value_info("h", onnx.TensorProto.DOUBLE, None)
    )

    done = collapse(normalise(ir.from_proto(proto)), merge="always")

    assert done.merges == ()
    assert done.refusals[0].reason == "h is an output of the graph"
