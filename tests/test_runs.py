"""Which spans of two blocks are offered, which are refused and why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from plan_wish import QUIET, wish

from pipeline.graphs.loading import normalise
from pipeline.mapping import Map, load_model, map_model
from pipeline.plans.demands import Demands
from pipeline.plans.pieces import Cut, cut_out
from pipeline.verbs.planned import plan_file
from runtimes.errors import InputError

TAPPED = """
<ir_version: 9, opset_import: ["" : 18]>
tapped (float[1,3,SIZE,SIZE] x) => (float[1,3,SIZE,SIZE] y GIVEN) {
    one = Conv <pads = [1,1,1,1]> (x, w)
    two = Relu (one)
    three = Conv <pads = [1,1,1,1]> (two, w)
    added = Add (x, three)
    between = Relu (added)
    four = Conv <pads = [1,1,1,1], strides = [STRIDE,STRIDE]> (between, w)
    five = Relu (four)
    six = Conv <pads = [1,1,1,1]> (five, w)
    END
}
"""
BOTTLENECKS = """
<ir_version: 9, opset_import: ["" : 18]>
bottlenecks (float[1,3,8,8] x) => (float[1,3,8,8] z) {
    one = Conv (x, a)
    r1 = Relu (one)
    two = Conv <pads = [1,1,1,1]> (r1, b)
    r2 = Relu (two)
    three = Conv (r2, c)
    y = Add (x, three)
    r3 = Relu (y)
    four = Conv (r3, a)
    r4 = Relu (four)
    five = Conv <pads = [1,1,1,1]> (r4, b)
    r5 = Relu (five)
    six = Conv (r5, c)
    z = Add (r3, six)
}
"""
PLAIN = "y = Add (between, six)"
SCALED = "z = Add (between, six) s = Sigmoid ({}) y = Mul (s, z)"


def tapped_proto(
    end: str = PLAIN, *, given: str = "", size: int = 8, stride: int = 1
) -> onnx.ModelProto:
    """Two residual blocks, how the second ends, and what else is given out."""
    words = {"SIZE": size, "STRIDE": stride, "GIVEN": given, "END": end}
    text = TAPPED
    for word, value in words.items():
        text = text.replace(word, str(value))
    proto = onnx.parser.parse_model(text)
    weight = np.ones((3, 3, 3, 3), np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    return proto


def tapped(end: str = PLAIN, **others) -> Map:
    return map_model(normalise(ir.from_proto(tapped_proto(end, **others))))


def reason(found: Map) -> str:
    """Why the activation between the blocks stays."""
    (said,) = [r.reason for r in found.refusals if r.site == found.sites[1].id]
    return said


@pytest.mark.parametrize("end", [PLAIN, SCALED.format("x"), SCALED.format("z")])
def test_who_else_reads_the_two_ends_of_a_span_does_not_matter(end):
    found = tapped(end)

    (run,) = found.runs
    assert found.sites[1].id in run.options[0].sites
    assert (run.input, run.output) == ("x", "y" if end == PLAIN else "z")


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (SCALED.format("between"), "between feeds Sigmoid_9 besides the block behind it"),
        (SCALED.format("added"), "its input comes from Add Add_3, not from one linear operator"),
        ("y = Add (added, six)", "its input comes from Add Add_3, not from one linear operator"),
    ],
)
def test_a_value_inside_that_another_reads_forbids_the_span(end, says):
    found = tapped(end)

    assert not found.runs
    assert reason(found) == says


def test_a_value_inside_that_the_graph_gives_out_forbids_the_span():
    found = tapped(given=", float[1,3,8,8] between")

    assert not found.runs
    assert reason(found) == "between is an output of the graph"


def test_a_branch_that_strides_where_its_shortcut_does_not_is_no_part_of_a_span():
    assert tapped(size=1).runs

    found = tapped(size=1, stride=2)

    assert not found.runs
    assert reason(found) == "the branch has stride [2, 2], its shortcut [1, 1]"


def test_a_kernel_that_takes_more_macs_than_two_narrow_blocks_is_not_offered():
    """3x3 between three channels is 81 MACs a pixel, two of these bottlenecks are 4 x 3 + 2 x 9."""
    proto = onnx.parser.parse_model(BOTTLENECKS)
    for name, shape in {"a": (1, 3, 1, 1), "b": (1, 1, 3, 3), "c": (3, 1, 1, 1)}.items():
        tensor = onnx.numpy_helper.from_array(np.ones(shape, np.float32), name)
        proto.graph.initializer.append(tensor)

    found = map_model(normalise(ir.from_proto(proto)))

    assert [option.kernel for run in found.runs for option in run.options] == [(1, 1)]
    assert found.runs[0].options[0].macs == 9 * 64 < found.runs[0].macs == 30 * 64


def test_both_blocks_are_cut_out_as_one_piece_to_be_timed():
    model = normalise(ir.from_proto(tapped_proto()))
    found = map_model(model)

    cut = cut_out(model, found, found.runs[0].options[0], seed=0)

    assert isinstance(cut, Cut)
    assert cut.after is not None
    block = ["Conv", "Relu", "Conv", "Add"]
    assert [node.op_type for node in cut.before.model.graph] == [*block, "Relu", *block]
    assert [node.op_type for node in cut.after.model.graph] == ["Conv"]
    for piece in (cut.before, cut.after):
        assert [value.name for value in piece.model.graph.inputs] == ["x"]
        assert tuple(piece.model.graph.outputs[0].shape or ()) == (1, 3, 8, 8)


@pytest.mark.usefixtures("known_times")
def test_an_activation_between_blocks_can_be_asked_to_go_and_a_block_beside_it_to_stay(tmp_path):
    model = tmp_path / "tapped.onnx"
    onnx.save(tapped_proto(), model)
    found = map_model(load_model(model))
    between = found.sites[1].id
    asked = wish(model, "1x", demands=Demands(remove=(between,)))

    document = plan_file(asked, QUIET)

    (option,) = document.plan.options
    assert option.segment == found.runs[0].id
    assert document.plan.macs_after == found.macs - option.macs_before + option.macs
    with pytest.raises(InputError, match="it is pinned too"):
        plan_file(
            replace(asked, demands=Demands(remove=(between,), pin=(found.segments[1].id,))), QUIET
        )
