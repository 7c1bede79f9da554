"""One operator, layout or border at a time: what merges, into what, and that it computes the same.

Networks are written in ONNX's own text format and run in float64 by the reference evaluator.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from pipeline.collapse import Collapsed, collapse
from pipeline.loading import normalise


def network(
    text: str, inputs: dict[str, tuple], weights: dict[str, tuple], output: str = "y", opset=20
) -> onnx.ModelProto:
    """`text` holds the nodes; weights are drawn, positive where their name starts with v."""
    generator = np.random.default_rng(0)
    declared = ", ".join(f"double[{','.join(map(str, s))}] {n}" for n, s in inputs.items())
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]>'
        f"g ({declared}) => (double[] {output}) {{ {text} }}"
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    for name, shape in weights.items():
        array = generator.standard_normal(shape)
        array = np.abs(array) + 0.5 if name.startswith("v") else array
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    return model


def run(model: ir.Model, feeds: dict[str, np.ndarray]) -> np.ndarray:
    (output,) = ReferenceEvaluator(ir.to_proto(model)).run(None, feeds)
    return np.asarray(output)


def collapsed_same(proto: onnx.ModelProto, **how) -> Collapsed:
    """Collapse and check that nothing but the graph changed."""
    source = normalise(ir.from_proto(proto))
    generator = np.random.default_rng(1)
    feeds = {}
    for value in source.graph.inputs:
        shape = [d if isinstance(d, int) else 6 for d in value.shape or ()]
        feeds[value.name or ""] = generator.standard_normal(shape)
    before = run(source, feeds)

    done = collapse(source, **how)

    reference = run(done.reference, feeds)
    after = run(done.model, feeds)
    assert after.shape == before.shape
    np.testing.assert_allclose(after, reference, rtol=1e-10, atol=1e-10 * np.abs(before).max())
    if not any(merged.border == "moved" for merged in done.merges):
        np.testing.assert_array_equal(reference, before)
    return done


def operators(done: Collapsed) -> list[str]:
    return [node.op_type for node in done.model.graph]


IMAGE = {"x": ("n", 3, 8, 9)}


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


NORM = "BatchNormalization <epsilon=0.01>"


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


def with_sizes(proto: onnx.ModelProto, **sizes: list[int]) -> onnx.ModelProto:
    for name, values in sizes.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.array(values), name))
    return proto


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
