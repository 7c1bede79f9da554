"""From the network as it is to the fastest plan: spread, without duplicates, measured."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_times import CPU, OPENVINO
from pydantic import TypeAdapter
from test_planning import FASTER, LOSSES, A, B, C, limit, option
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.feedback import Attempt, Measured
from pipeline.mapping import Option
from pipeline.planning import Plan
from pipeline.plans.frontier import dominated, spread
from pipeline.reporting.plan_document import PlanDocument
from pipeline.reporting.progress import Reporter
from pipeline.verbs.planned import Wish, plan_file
from profiles.statistics import Estimate
from runtimes.errors import InputError

QUIET = Reporter(quiet=True)
ONE_EACH = [option(id_, f"segment {id_}") for id_ in "abcd"]
DOUBLING = {"a": 1.0, "b": 2.0, "c": 4.0, "d": 8.0}
SAVING = {id_: -loss / 2 for id_, loss in DOUBLING.items()}


def chosen(plans: tuple[Plan, ...]) -> list[str]:
    return ["".join(sorted(plan.options)) for plan in plans]


def test_plans_go_from_everything_kept_to_the_fastest_in_even_steps():
    """16 plans, saving 0 to 7.5 ms in steps of 0.5."""
    plans = spread(ONE_EACH, DOUBLING, [limit(SAVING, 1.0)], 4)

    assert chosen(plans) == ["", "ac", "bd", "abcd"]
    assert [plan.predicted_ms["here"] for plan in plans] == [10.0, 7.5, 5.0, 2.5]


def test_fewer_plans_than_asked_for_are_all_that_there_are():
    """A and B exclude each other; A and C together save no more than B alone, for as much."""
    plans = spread([A, B, C], LOSSES, [limit(FASTER, 1.0)], 8)

    assert chosen(plans) == ["", "a", "c", "b", "bc"]


def test_even_budgets_that_give_one_plan_twice_are_made_up_for():
    """All but 1 % of the way is one option's: even budgets would find no more than it."""
    saving = {"a": -0.02, "b": -0.03, "c": -0.04, "d": -8.0}

    plans = spread(ONE_EACH, {**DOUBLING, "d": 1.0}, [limit(saving, 1.0)], 5)

    assert len(set(chosen(plans))) == 5


def test_without_options_the_network_as_it_is_is_the_frontier():
    assert chosen(spread([], {}, [limit({}, 1.0)], 8)) == [""]


def test_options_that_save_nothing_are_no_frontier():
    slower = dict.fromkeys("abcd", 0.5)

    assert chosen(spread(ONE_EACH, DOUBLING, [limit(slower, 1.0)], 8)) == [""]


def test_a_target_that_gets_slower_bounds_no_step_but_the_last():
    there = limit(dict.fromkeys("abcd", 0.1), 1.0, target="there")

    plans = spread(ONE_EACH, DOUBLING, [limit(SAVING, 1.0), there], 4)

    assert chosen(plans)[0] == ""
    assert chosen(plans)[-1] == "abcd"
    assert all(plan.predicted_ms["there"] <= 10.4 + 1e-6 for plan in plans)


def test_of_equal_losses_none_is_taken_that_makes_one_of_two_targets_slower():
    """b is a's equal in loss and faster in the sum, but slower than the network as it is there."""
    here = limit({"a": -1.0, "b": -3.0, "c": -1.0}, 1.0)
    there = limit({"a": -1.0, "b": 0.5, "c": -3.0}, 1.0, target="there")

    plans = spread([A, B, C], {"a": 1.0, "b": 1.0, "c": 5.0}, [here, there], 3)

    assert chosen(plans) == ["", "a", "bc"]


@settings(max_examples=12, deadline=None)
@given(
    saved=st.lists(st.integers(-3, 40), min_size=1, max_size=6),
    losses=st.lists(st.integers(1, 20), min_size=6, max_size=6),
    count=st.integers(2, 9),
)
def test_every_plan_is_faster_and_dearer_than_the_one_before(
    saved: list[int], losses: list[int], count: int
):
    options: list[Option] = [option(f"o{i}", f"s{i}") for i in range(len(saved))]
    loss = {o.id: float(value) for o, value in zip(options, losses, strict=False)}
    table = limit({o.id: -ms / 50 for o, ms in zip(options, saved, strict=True)}, 1.0)

    plans = spread(options, loss, [table], count)

    assert len({frozenset(plan.options) for plan in plans}) == len(plans) <= count
    assert plans[0].options == ()
    least = table.dense_ms - sum(ms for ms in saved if ms > 0) / 50
    assert plans[-1].predicted_ms["here"] == pytest.approx(least)
    for slower, faster in pairwise(plans):
        assert faster.predicted_ms["here"] < slower.predicted_ms["here"]
        assert faster.predicted_loss > slower.predicted_loss


def attempt(loss: float, *ratios: float) -> Attempt:
    plan = Plan((f"{loss}",), {}, {}, loss, "optimal", 0.0)
    same = [Estimate(ratio, ratio, ratio, 0.95) for ratio in ratios]
    return Attempt(plan, tuple(Measured("t", r, r, r, 1, 1) for r in same), (True,) * len(same))


def test_a_plan_that_loses_more_and_measured_no_faster_is_dominated():
    points = [attempt(0, 1.0), attempt(1, 0.8), attempt(2, 0.85), attempt(3, 0.6)]

    assert dominated(points) == (False, False, True, False)


def test_a_plan_that_is_faster_on_one_target_is_not_dominated():
    points = [attempt(1, 0.8, 0.9), attempt(2, 0.85, 0.7), attempt(2, 0.85, 0.9)]

    assert dominated(points) == (False, False, True)


@pytest.mark.usefixtures("known_times")
def test_without_a_budget_nothing_is_chosen_and_every_plan_is_measured(network):
    document = plan_file(Wish(network, (CPU,), rounds=2, frontier=8), QUIET)

    assert document.feasible
    assert document.plan.options == document.rounds == ()
    assert (document.targets[0].budget, document.targets[0].limit_ms) == (None, None)
    assert document.reasons == ("no budget was given, so nothing has to be removed",)
    assert len(document.frontier) >= 3
    assert document.frontier[0].options == ()
    assert document.frontier[0].measured_ms[CPU].ratio == 1.0
    assert all(abs(row.prediction_error[CPU]) < 0.02 for row in document.frontier)
    assert all(row.meets == {} for row in document.frontier)
    assert [row.macs for row in document.frontier] == sorted(
        (row.macs for row in document.frontier), reverse=True
    )


def test_a_plan_that_the_loop_measured_is_not_measured_again(known_times, network):
    document = plan_file(Wish(network, (CPU,), ("0.01x",), rounds=2, frontier=2), QUIET)

    assert not document.feasible
    assert [row.meets[CPU] for row in document.frontier] == [False, False]
    assert document.frontier[-1].measured_ms == document.rounds[-1].measured_ms
    assert known_times.calls[2:] == [2] * len(document.rounds)


@pytest.mark.usefixtures("known_times")
def test_a_budget_that_is_met_anyhow_leaves_the_frontier(network):
    document = plan_file(
        Wish(network, (CPU, OPENVINO), ("100ms", "1x"), rounds=2, frontier=3), QUIET
    )

    assert document.reasons == ("the network as it is meets every budget",)
    assert len(document.frontier) == 3
    assert all(row.meets[CPU] for row in document.frontier)


@pytest.mark.usefixtures("known_times")
def test_a_network_with_nothing_to_remove_is_its_own_frontier(make_network):
    document = plan_file(Wish(make_network(convolutions=1), (CPU,), frontier=8), QUIET)

    assert [row.options for row in document.frontier] == [()]


def test_what_was_measured_slower_than_a_plan_that_loses_less_is_marked(known_times, network):
    """Two replacements that are faster each alone are slower together than one of them."""
    known_times.times[CPU] = lambda found: {4: 4.0, 3: 3.0}.get(len(found.operators), 3.2)

    document = plan_file(Wish(network, (CPU,), rounds=2, frontier=4), QUIET)

    assert [row.measured_ms[CPU].median_ms for row in document.frontier] == [4.0, 3.0, 3.2]
    assert [row.dominated for row in document.frontier] == [False, False, True]


@pytest.mark.usefixtures("known_times")
def test_a_point_of_the_frontier_is_a_plan_to_measure_again(network, tmp_path):
    out, point = tmp_path / "frontier.json", tmp_path / "point.json"
    first = plan_file(Wish(network, (CPU,), rounds=2, frontier=4, out=out), QUIET)
    point.write_text(json.dumps(json.loads(out.read_text())["frontier"][-1]))

    again = plan_file(Wish(network, (CPU,), ("100ms",), source=point, rounds=2), QUIET)
    whole = plan_file(Wish(None, source=out, rounds=2), QUIET)

    assert TypeAdapter(PlanDocument).validate_json(out.read_bytes()) == first
    assert again.plan.removed_sites == first.frontier[-1].removed_sites
    assert again.measured_ms == first.frontier[-1].measured_ms
    assert whole.targets == first.targets


@pytest.mark.usefixtures("known_times")
def test_the_terminal_shows_every_point(network):
    done = CliRunner().invoke(
        app, ["plan", str(network), "--target", CPU, "--frontier", "4"], env={"COLUMNS": "160"}
    )

    assert done.exit_code == 0
    assert "from the network as it is to the fastest plan" in done.stdout
    assert "no budget was given: 0 activations removed" in done.stdout


@pytest.mark.usefixtures("known_times")
def test_a_frontier_of_a_given_plan_is_refused(network, tmp_path):
    out = tmp_path / "plan.json"
    plan_file(Wish(network, (CPU,), ("0.8x",), rounds=2, out=out), QUIET)

    with pytest.raises(InputError, match="give one of them"):
        plan_file(Wish(None, source=out, frontier=4), QUIET)


@pytest.mark.usefixtures("known_times")
def test_one_plan_is_no_frontier(network):
    done = CliRunner().invoke(app, ["plan", str(network), "--target", CPU, "--frontier", "1"])

    assert done.exit_code == 2
