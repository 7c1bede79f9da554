"""Caps, pins and removals asked of a network: what is built is what was reckoned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from known_times import CPU
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.graphs.building import build
from pipeline.mapping import Map, load_model, map_model
from pipeline.plans.demands import Demands, rules_of, unpinned
from pipeline.plans.footprint import Footprint, operators_of, quantities
from pipeline.reporting.progress import Reporter
from pipeline.verbs.planned import Wish, plan_file
from runtimes.errors import InputError

QUIET = Reporter(quiet=True)

BRANCHED = """
<ir_version: 9, opset_import: ["" : 18]>
branched (float[1,3,12,12] x) => (float[1,2] y) {
    stem = Conv <pads = [1,1,1,1]> (x, a)
    r0 = Relu (stem)
    one = Conv <pads = [1,1,1,1]> (r0, b)
    r1 = Relu (one)
    two = Conv <pads = [1,1,1,1]> (r1, b)
    sum = Add (two, r0)
    r2 = Relu (sum)
    side = Conv (r2, p)
    three = Conv <pads = [1,1,1,1]> (r2, c)
    r3 = Relu (three)
    four = Conv <pads = [1,1,1,1]> (r3, d)
    joined = Add (four, side)
    r4 = Relu (joined)
    pooled = GlobalAveragePool (r4)
    flat = Flatten (pooled)
    five = MatMul (flat, e)
    r5 = Relu (five)
    y = MatMul (r5, f)
}
"""
SHAPES = {
    "a": (4, 3, 3, 3),
    "b": (4, 4, 3, 3),
    "c": (8, 4, 3, 3),
    "d": (8, 8, 3, 3),
    "p": (8, 4, 1, 1),
    "e": (8, 24),
    "f": (24, 2),
}


@pytest.fixture(scope="module")
def branched(tmp_path_factory) -> tuple[ir.Model, Map]:
    """A residual block of one weight twice, one with a projection, and two matrices."""
    proto = onnx.parser.parse_model(BRANCHED)
    rng = np.random.default_rng(0)
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in SHAPES.items()
    )
    for index, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}{index}"
    path = tmp_path_factory.mktemp("caps") / "branched.onnx"
    onnx.save(proto, path)
    model = load_model(path)
    return model, map_model(model)


def test_predicted_quantities_are_those_of_the_built_network(branched):
    model, found = branched
    footprint = Footprint(model, found)
    assert found.options

    for one in found.options:
        built = build(model, found, [one], seed=0)
        tensors = [value.const_value for value in built.graph.initializers.values()]
        content = sum(tensor.nbytes for tensor in tensors if tensor is not None)
        again = map_model(built)
        assert footprint.weights().of([one.id]) == content, one.id
        assert operators_of(found).of([one.id]) == len(again.operators), one.id
        assert quantities(model, found)[0].of([one.id]) == again.macs, one.id


def test_the_memory_peak_is_that_of_the_built_network(branched):
    model, found = branched
    peak = Footprint(model, found).peak()

    for one in found.options:
        built = build(model, found, [one], seed=0)
        alone = Footprint(built, replace(map_model(built), segments=())).peak()
        assert peak.of([one.id]) == alone.of(()), one.id


def test_what_is_pinned_stays_and_a_near_miss_is_named(branched):
    _, found = branched
    segment = found.segments[0]

    assert not [o for o in unpinned(found, found.options, [segment.id]) if o.segment == segment.id]
    left = unpinned(found, found.options, [segment.sites[0]])
    assert left
    assert not [o for o in left if segment.sites[0] in o.sites]
    with pytest.raises(InputError, match=rf"did you mean '{segment.id}'\?"):
        unpinned(found, found.options, [segment.id + "x"])


@pytest.mark.parametrize(
    ("demands", "says"),
    [
        (Demands(max_macs="lots"), "max_macs = 'lots': not an amount; write 300M"),
        (Demands(max_operators=1), "max_operators = 1 cannot be met: the least of any plan is"),
        (Demands(max_bytes="1"), "max_bytes = 1 cannot be met"),
        (Demands(max_peak_bytes="10"), "max_peak_bytes = 10 cannot be met"),
        (Demands(remove=("relu9",)), "remove = 'relu9': no such site or segment"),
    ],
)
def test_demands_that_no_plan_can_satisfy_are_refused_before_measuring(branched, demands, says):
    model, found = branched

    with pytest.raises(InputError, match=says):
        rules_of(demands, model, found, found.options)


def test_a_site_that_is_pinned_cannot_be_removed_as_well(branched):
    model, found = branched
    site = found.segments[0].sites[0]

    with pytest.raises(InputError, match="it is pinned too"):
        rules_of(Demands(remove=(site,)), model, found, unpinned(found, found.options, [site]))


@pytest.mark.usefixtures("known_times")
def test_a_plan_meets_its_caps_and_says_so(make_network):
    network = make_network(convolutions=4)
    found = map_model(load_model(network))
    pinned = found.sites[1].id
    wish = Wish(network, (CPU,), ("0.9x",), rounds=2, max_kernel=7)

    document = plan_file(
        replace(wish, demands=Demands(max_macs="0.5x", max_removed=2, pin=(pinned,))), QUIET
    )

    assert document.feasible
    assert {cap.quantity for cap in document.rules.caps} == {"macs", "removed"}
    assert all(cap.planned <= cap.most for cap in document.rules.caps)
    assert document.rules.caps[0].planned == document.plan.macs_after
    assert pinned not in document.plan.removed_sites


@pytest.mark.usefixtures("known_times")
def test_a_budget_that_is_met_does_not_excuse_from_a_cap(make_network):
    network = make_network(convolutions=4)
    wish = Wish(network, (CPU,), ("1x",), rounds=2, max_kernel=7)

    document = plan_file(replace(wish, demands=Demands(max_operators=3)), QUIET)

    assert len(document.plan.options) == 1
    assert document.rules.caps[0].planned == 3


@pytest.mark.usefixtures("known_times")
def test_which_budget_is_to_blame_is_among_the_reasons(make_network):
    network = make_network(convolutions=4)
    wish = Wish(network, (CPU,), ("0.1x",), rounds=2, max_kernel=7)

    document = plan_file(replace(wish, demands=Demands(max_removed=1)), QUIET)

    assert not document.feasible
    assert "the fastest measured" in document.reasons[0]
    assert "ms on x86-cpu cannot be met" in document.reasons[1]


def test_flags_reach_the_search(make_network):
    network = make_network(convolutions=3)
    arguments = ["plan", str(network), "--target", CPU, "--budget", "0.8x"]

    for more in (["--pin", "relu7"], ["--remove", "relu7"], ["--max-macs", "lots"]):
        found = CliRunner().invoke(app, [*arguments, *more])
        assert isinstance(found.exception, InputError)
        assert f"{more[0].strip('-').replace('-', '_')} = '{more[1]}'" in str(found.exception)
