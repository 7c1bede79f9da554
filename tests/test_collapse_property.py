"""Random linear networks compute the same before and after, in float64.

Convolutions of any kernel, stride, dilation, padding and grouping, batch norms, per-channel
constants, averages and shortcuts, nested ones too, drawn as ONNX graphs and run by onnx's
reference evaluator, which shares no code with the collapse.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from onnx import helper
from onnx.reference import ReferenceEvaluator

from pipeline.collapse import applying
from pipeline.collapse.algebra import Linear, merge
from pipeline.collapse.collapsing import collapse
from pipeline.graphs.building import build
from pipeline.graphs.loading import normalise
from pipeline.mapping import map_model

CHANNELS = 4
BATCH = 2


@dataclass
class Draft:
    """A graph under construction; `channels` and `size` are those of the last value."""

    draw: st.DrawFn
    seed: int
    channels: int = CHANNELS
    size: tuple[int, int] = (0, 0)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self):
        self.generator = np.random.default_rng(self.seed)

    def constant(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = np.asarray(array)
        return name

    def normal(self, *shape: int) -> str:
        return self.constant(self.generator.standard_normal(shape))

    def node(self, op: str, inputs: list[str], **attributes) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"{op}_{name}", **attributes))
        return name

    def conv(self, x: str, kernel, strides, dilations, pads, groups: int, out: int) -> str:
        inputs = [x, self.normal(out, self.channels // groups, *kernel)]
        if self.draw(st.booleans()):
            inputs.append(self.normal(out))
        sizes = []
        for axis, length in enumerate(self.size):
            reach = dilations[axis] * (kernel[axis] - 1) + 1
            sizes.append((length + pads[axis] + pads[axis + 2] - reach) // strides[axis] + 1)
        self.channels, self.size = out, (sizes[0], sizes[1])
        return self.node(
            "Conv", inputs, strides=strides, dilations=dilations, pads=pads, group=groups
        )


def pair(draw: st.DrawFn, low: int, high: int) -> list[int]:
    return [draw(st.integers(low, high)), draw(st.integers(low, high))]


def random_conv(draft: Draft, x: str) -> str:
    draw = draft.draw
    kernel, strides, dilations = pair(draw, 1, 3), pair(draw, 1, 2), pair(draw, 1, 2)
    pads = [*pair(draw, 0, 2), *pair(draw, 0, 2)]
    if draw(st.booleans()):
        kernel, pads = [1, 1], [0, 0, 0, 0]
    groups = draw(st.sampled_from([g for g in (1, 2, 4) if draft.channels % g == 0]))
    out = groups * draw(st.integers(1, 3))
    for axis in range(2):
        reach = dilations[axis] * (kernel[axis] - 1) + 1
        if draft.size[axis] + pads[axis] + pads[axis + 2] < reach:
            return x
    return draft.conv(x, kernel, strides, dilations, pads, groups, out)


def random_affine(draft: Draft, x: str) -> str:
    op = draft.draw(st.sampled_from(["Mul", "Add", "Sub", "Div", "BatchNormalization"]))
    channels = draft.channels
    if op != "BatchNormalization":
        constant = draft.constant(1.5 + draft.generator.random((1, channels, 1, 1)))
        swapped = op != "Div" and draft.draw(st.booleans())
        return draft.node(op, [constant, x] if swapped else [x, constant])
    variance = draft.constant(0.5 + draft.generator.random(channels))
    scale, shift, mean = (draft.normal(channels) for _ in range(3))
    return draft.node(op, [x, scale, shift, mean, variance], epsilon=1e-3)


def random_block(draft: Draft, x: str, depth: int) -> str:
    """x + F(x), with the identity or a 1x1 projection beside a branch of the right size."""
    draw = draft.draw
    channels, size = draft.channels, draft.size
    project = draw(st.booleans())
    stride = draw(st.integers(1, 2)) if project else 1
    out = draw(st.integers(1, 5)) if project else channels
    y = x
    if depth and draw(st.booleans()):
        y = random_block(draft, y, depth - 1)
        (
            project,
            stride,
            out,
        ) = False, 1, draft.channels
        if (draft.channels, draft.size) != (channels, size):
            return y
    else:
        groups = 2 if draft.channels % 2 == 0 and draw(st.booleans()) else 1
        y = draft.conv(y, [3, 3], [stride] * 2, [1, 1], [1] * 4, groups, 2 * draft.channels)
    if draw(st.booleans()):
        y = random_affine(draft, y)
    y = draft.conv(y, [1, 1], [1, 1], [1, 1], [0] * 4, 1, out)
    after = draft.size
    if project:
        draft.channels, draft.size = channels, size
        x = draft.conv(x, [1, 1], [stride] * 2, [1, 1], [0] * 4, 1, out)
    draft.channels, draft.size = out, after
    return draft.node("Add", [x, y] if draw(st.booleans()) else [y, x])


def random_pool(draft: Draft, x: str) -> str:
    if min(draft.size) < 2:
        return x
    draft.size = (draft.size[0] // 2, draft.size[1] // 2)
    return draft.node("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2])


def random_channels_last(draft: Draft, x: str) -> str:
    """A matrix, or two, on channels that were moved to the last axis, and back again."""
    x = draft.node("Transpose", [x], perm=[0, 2, 3, 1])
    for _ in range(draft.draw(st.integers(1, 2))):
        out = draft.draw(st.integers(1, 4))
        x = draft.node("MatMul", [x, draft.normal(draft.channels, out)])
        if draft.draw(st.booleans()):
            x = draft.node("Add", [draft.normal(out), x])
        draft.channels = out
    return draft.node("Transpose", [x], perm=[0, 3, 1, 2])


@st.composite
def networks(draw: st.DrawFn) -> onnx.ModelProto:
    draft = Draft(draw, draw(st.integers(0, 2**16)))
    draft.size = (draw(st.integers(5, 9)), draw(st.integers(5, 9)))
    height, width = draft.size
    x = "x"
    steps = draw(st.lists(st.sampled_from("cccaabrpl"), min_size=2, max_size=6))
    for step in steps:
        if step == "c":
            x = random_conv(draft, x)
        elif step == "a":
            x = random_affine(draft, x)
        elif step == "b":
            x = random_block(draft, x, depth=1)
        elif step == "l":
            x = random_channels_last(draft, x)
        elif step == "p":
            x = random_pool(draft, x)
        else:
            x = draft.node("Relu", [x])
    if draw(st.booleans()):
        x = draft.conv(x, [1, 1], [1, 1], [1, 1], [0] * 4, 1, 3)
        x = draft.node("GlobalAveragePool", [x])
        x = draft.node("Flatten", [x])
        x = draft.node("Gemm", [x, draft.normal(3, 2), draft.normal(2)], alpha=0.5, beta=2.0)
        x = draft.node("Gemm", [x, draft.normal(5, 2)], transB=1)
    dynamic = draw(st.booleans())
    shape = ["batch", CHANNELS, *(["h", "w"] if dynamic else [height, width])]
    x = draft.node("Identity", [x])
    graph = helper.make_graph(
        draft.nodes,
        "network",
        [helper.make_tensor_value_info("x", onnx.TensorProto.DOUBLE, shape)],
        [helper.make_tensor_value_info(x, onnx.TensorProto.DOUBLE, None)],
        [onnx.numpy_helper.from_array(array, name) for name, array in draft.weights.items()],
    )
    graph.doc_string = f"{height} {width}"  # the size to run it with
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    (output,) = ReferenceEvaluator(model).run(None, {"x": image})
    return np.asarray(output)


def worst_error(proto: onnx.ModelProto, **settings_of_collapse) -> float:
    height, width = map(int, proto.graph.doc_string.split())
    image = np.random.default_rng(1).standard_normal((BATCH, CHANNELS, height, width))
    collapsed = collapse(ir.from_proto(proto), **settings_of_collapse)
    before = run(ir.to_proto(collapsed.reference), image)
    after = run(ir.to_proto(collapsed.model), image)
    if not settings_of_collapse.get("move_padding"):
        np.testing.assert_array_equal(before, run(proto, image))
    assert before.shape == after.shape
    scale = np.abs(before).max(initial=0.0) or 1.0
    return float(np.abs(after - before).max(initial=0.0) / scale)


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@pytest.mark.parametrize("move_padding", [False, True])
@pytest.mark.parametrize("merge_how", ["cheaper", "always"])
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(proto=networks())
def test_a_collapsed_network_computes_the_same(merge_how, move_padding, proto):
    note(onnx.printer.to_text(proto))
    error = worst_error(proto, merge=merge_how, move_padding=move_padding, max_kernel=9)

    assert error < 1e-10


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(proto=networks())
def test_every_option_builds_a_network_of_the_same_output_and_the_promised_cost(proto):
    note(onnx.printer.to_text(proto))
    height, width = map(int, proto.graph.doc_string.split())
    image = np.random.default_rng(1).standard_normal((BATCH, CHANNELS, height, width))
    model = normalise(ir.from_proto(proto))
    found = map_model(model)
    shape = run(ir.to_proto(model), image).shape

    for option in found.options:
        built = build(model, found, [option], seed=0)

        assert run(ir.to_proto(built), image).shape == shape
        assert map_model(built).macs == found.macs - option.macs_before + option.macs


def two_convs() -> onnx.ModelProto:
    generator = np.random.default_rng(0)
    weights = {"a": (5, CHANNELS, 3, 3), "b": (3, 5, 2, 2)}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "a"], ["h"], pads=[1] * 4, name="first"),
            helper.make_node("Conv", ["h", "b"], ["y"], name="second"),
        ],
        "pair",
        [helper.make_tensor_value_info("x", onnx.TensorProto.DOUBLE, ["n", CHANNELS, 7, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.DOUBLE, None)],
        [
            onnx.numpy_helper.from_array(generator.standard_normal(shape), name)
            for name, shape in weights.items()
        ],
        "7 8",
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_the_property_fails_when_a_tap_is_shifted_by_one(monkeypatch):
    def shifted(first: Linear, second: Linear) -> Linear:
        merged = merge(first, second)
        return Linear(merged.geometry, np.roll(merged.weight, 1, axis=-1), merged.bias)

    right = worst_error(two_convs(), merge="always")
    monkeypatch.setattr(applying, "merge", shifted)
    wrong = worst_error(two_convs(), merge="always")

    assert right < 1e-10
    assert wrong > 0.1
