"""Caps, pins and removals: of the solver against every plan, of a network against what is built."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_times import CPU
from test_planning import option
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.building import build
from pipeline.caps import Cap, Quantity, Row, Rules
from pipeline.demands import Demands, rules_of, unpinned
from pipeline.footprint import Footprint, operators_of, quantities
from pipeline.infeasible import blame
from pipeline.mapping import Map, Option, load_model, map_model
from pipeline.planned import Wish, plan_file
from pipeline.planning import Limit, Plan, by_macs, solve
from pipeline.progress import Reporter
from runtimes.errors import InputError

QUIET = Reporter(quiet=True)


class Problem:
    """Random options, limits of several targets, every kind of cap, pairs and a removal."""

    def __init__(self, seed: int, count: int):
        rng = np.random.default_rng(seed)
        self.options: list[Option] = []
        for index in range(count):
            first = int(rng.integers(0, 3))
            last = int(rng.integers(first, 4))
            made = option(f"o{index}", f"s{rng.integers(0, 4)}", first, last)
            sites = tuple(f"{made.segment}#{i}" for i in range(first, last))
            self.options.append(replace(made, sites=sites))
        ids = [o.id for o in self.options]
        self.losses = {id_: float(rng.integers(0, 40)) for id_ in ids}
        self.limits = [
            Limit(
                f"t{k}", 10.0, {i: float(rng.normal(-1, 1)) for i in ids}, float(rng.uniform(6, 11))
            )
            for k in range(int(rng.integers(1, 5)))
        ]
        caps = []
        for name in ("macs", "bytes", "peak_bytes", "operators", "removed"):
            rows = tuple(
                Row(100.0, {i: float(rng.integers(-30, 10)) for i in ids})
                for _ in range(3 if name == "peak_bytes" else 1)
            )
            if rng.random() < 0.5:
                most = float(rng.integers(40, 130))
                caps.append(Cap(Quantity(name, name, rows), most, f"{most}"))
        sites = sorted({site for o in self.options for site in o.sites})
        removed = (sites[int(rng.integers(len(sites)))],) if sites and rng.random() < 0.3 else ()
        self.rules = Rules(tuple(caps), removed)
        chosen = rng.choice(count, size=(3, 2)) if count > 1 else []
        self.pairs = {(ids[a], ids[b]): float(rng.integers(-10, 20)) for a, b in chosen if a != b}

    def allows(self, plan: tuple[Option, ...]) -> bool:
        ids = [o.id for o in plan]
        within = all(
            x.dense_ms + sum(x.differences_ms[i] for i in ids) <= x.budget_ms for x in self.limits
        )
        capped = all(cap.holds(ids) for cap in self.rules.caps)
        gone = {site for o in plan for site in o.sites}
        apart = all(
            a.segment != b.segment or a.last < b.first or b.last < a.first
            for a, b in itertools.combinations(plan, 2)
        )
        return within and capped and apart and gone.issuperset(self.rules.removed)

    def loss(self, plan: tuple[Option, ...]) -> float:
        ids = {o.id for o in plan}
        together = sum(v for pair, v in self.pairs.items() if ids.issuperset(pair))
        return sum(self.losses[i] for i in ids) + together

    def solve(self, options: list[Option] | None = None) -> Plan | None:
        return solve(
            options or self.options, self.losses, self.limits, rules=self.rules, pairs=self.pairs
        )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 14))
def test_with_all_limits_at_once_the_solver_agrees_with_trying_every_plan(seed: int, count: int):
    problem = Problem(seed, count)

    plan = problem.solve()

    subsets = itertools.chain.from_iterable(
        itertools.combinations(problem.options, size) for size in range(count + 1)
    )
    allowed = [problem.loss(one) for one in subsets if problem.allows(one)]
    if plan is None:
        assert not allowed
    else:
        assert problem.allows(tuple(o for o in problem.options if o.id in plan.options))
        assert plan.predicted_loss == pytest.approx(min(allowed))
        assert plan.status == "optimal"


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), data=st.data())
def test_the_order_of_the_options_does_not_matter_even_where_plans_tie(seed: int, data):
    problem = Problem(seed, 12)
    problem.losses = dict.fromkeys(problem.losses, 1.0)
    shuffled = data.draw(st.permutations(problem.options))

    plan, again = problem.solve(), problem.solve(shuffled)

    assert (plan is None) == (again is None)
    if plan and again:
        assert set(plan.options) == set(again.options)


def test_a_choice_by_macs_ignores_time():
    cheap = replace(option("cheap", "s"), macs=1, macs_before=50)
    quick = replace(option("quick", "t"), macs=40, macs_before=50)
    losses = {"cheap": 1.0, "quick": 0.5}

    plan = by_macs([cheap, quick], losses, macs=100, most=60)

    assert plan is not None
    assert plan.options == ("cheap",)
    assert plan.amounts == {"macs": 51.0}
    assert by_macs([cheap, quick], losses, macs=100, most=40) is None


A, B = option("a", "s"), option("b", "t")
SAVES = {"a": -1.0, "b": -2.0}


def macs(most: float) -> Cap:
    return Cap(Quantity("macs", "MACs", (Row(10.0, {"a": -6.0, "b": 2.0}),)), most, f"{most:g}")


def test_two_options_that_are_dear_together_are_not_taken_together():
    c = option("c", "u")
    limits = [Limit("here", 10.0, {"a": -1.0, "b": -1.0, "c": -1.0}, 8.0)]
    losses = {"a": 1.0, "b": 1.0, "c": 1.5}

    alone = solve([A, B, c], losses, limits)
    together = solve([A, B, c], losses, limits, pairs={("a", "b"): 1.0})

    assert alone is not None
    assert together is not None
    assert set(alone.options) == {"a", "b"}
    assert "c" in together.options
    assert together.predicted_loss == 2.5


def test_the_budget_that_no_plan_meets_is_named_with_the_least_there_is():
    said = blame([A, B], [Limit("here", 10.0, SAVES, 5.0)], Rules((macs(4.0),)))

    assert said == "5 ms on here cannot be met: the fastest plan is reckoned at 7 ms"
    said = blame([A, B], [Limit("here", 10.0, SAVES, 8.0)], Rules((macs(3.0),)))
    assert said == ("max_macs = 3 cannot be met: the least of any plan is 4 MACs (dense: 10)")


def test_budgets_that_only_exclude_each_other_are_named_together():
    said = blame([A, B], [Limit("here", 10.0, SAVES, 8.0)], Rules((macs(4.0),)))

    assert said is not None
    assert "8 ms on here and max_macs = 4 can each be met alone, but not together" in said
    assert blame([A, B], [Limit("here", 10.0, SAVES, 9.0)], Rules((macs(4.0),))) is None


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


@pytest.mark.usefixtures("device")
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


@pytest.mark.usefixtures("device")
def test_a_budget_that_is_met_does_not_excuse_from_a_cap(make_network):
    network = make_network(convolutions=4)
    wish = Wish(network, (CPU,), ("1x",), rounds=2, max_kernel=7)

    document = plan_file(replace(wish, demands=Demands(max_operators=3)), QUIET)

    assert len(document.plan.options) == 1
    assert document.rules.caps[0].planned == 3


@pytest.mark.usefixtures("device")
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
