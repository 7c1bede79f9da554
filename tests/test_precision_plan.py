"""Depth and precision planned together, on a device whose times follow from the network."""

import onnx
import pytest
from known_times import CPU
from narrow_times import BOTH, kinds, plan
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.mapping import load_model, map_model
from pipeline.plans.demands import Demands
from pipeline.verbs import precision_bench
from runtimes.errors import InputError


@pytest.mark.usefixtures("narrow_times")
def test_eight_bits_alone_are_chosen_where_depth_would_lose_more(network):
    document = plan(network, "0.6x")

    assert document.feasible
    assert (document.precision, document.plan.options) == ("int8", ())
    assert document.measured_ms[CPU].ratio == pytest.approx(0.5, rel=1e-3)
    assert document.targets[0].budget == "0.6x"


@pytest.mark.usefixtures("narrow_times")
def test_a_cap_says_what_the_chosen_network_has_of_it(network):
    """The plan in fp32, which was not chosen, removes some."""
    document = plan(network, "0.6x", demands=Demands(max_removed=3))

    assert (document.precision, document.plan.options) == ("int8", ())
    assert document.rules.caps[0].planned == 0


@pytest.mark.usefixtures("narrow_times")
def test_depth_alone_is_chosen_where_it_loses_less(network, monkeypatch):
    monkeypatch.setitem(precision_bench.PENALTIES, "int8", 50.0)

    document = plan(network, "0.8x")

    assert document.feasible
    assert document.precision == "fp32"
    assert len(document.plan.removed_sites) == 1


@pytest.mark.usefixtures("narrow_times")
def test_both_are_chosen_where_neither_is_enough(network):
    document = plan(network, "0.4x")

    assert document.feasible
    assert document.precision == "int8"
    assert document.plan.options
    assert document.measured_ms[CPU].interval_ms[1] <= 0.4 * document.dense_ms[CPU].median_ms
    fitted = pytest.approx(len(document.plan.removed_sites) + 1, abs=0.01)  # a fit loses a little
    assert document.plan.predicted_loss == fitted


@pytest.mark.usefixtures("narrow_times")
def test_the_rows_show_depth_precision_and_both(network):
    document = plan(network, "0.4x")

    assert set(kinds(document)) == {
        ("fp32", False), ("fp32", True), ("int8", False), ("int8", True),
    }  # fmt: skip
    losses = [row.predicted_loss for row in document.precisions]
    assert losses == sorted(losses)


def test_the_scale_that_was_measured_corrects_the_next_plan(network, narrow_times):
    """With depth the saving of eight bits is smaller than on the dense network."""
    narrow_times.share_of = lambda whole: 0.5 if whole else 0.7

    document = plan(network, "0.4x")

    both = [row for row in document.precisions if row.precision == "int8" and row.options]
    assert len(both) > 1
    assert document.feasible
    assert document.measured_ms[CPU].interval_ms[1] <= 0.4 * document.dense_ms[CPU].median_ms


def test_eight_bits_that_are_slower_are_measured_and_left(network, narrow_times):
    narrow_times.share_of = lambda _: 1.3

    document = plan(network, "0.8x")

    assert document.feasible
    assert document.precision == "fp32"
    assert max(row.measured_ms[CPU].ratio or 1 for row in document.precisions) > 1.2


@pytest.mark.usefixtures("narrow_times")
def test_out_of_reach_in_every_precision_names_the_nearest(network):
    document = plan(network, "0.01x")

    assert not document.feasible
    assert document.precision == "int8"
    assert "nearest is in int8, and over the budget" in document.reasons[0]
    assert document.fastest_ms == {CPU: document.measured_ms[CPU].median_ms}


def test_a_budget_already_met_needs_no_fewer_bits(network, narrow_times):
    document = plan(network, "1.5x")

    assert (document.precision, document.plan.options) == ("fp32", ())
    assert narrow_times.narrow == 0


@pytest.mark.usefixtures("narrow_times")
def test_a_frontier_has_every_plan_in_every_precision(network):
    document = plan(network, "0.4x", frontier=3)

    by_precision = {
        precision: sorted(row.options for row in document.frontier if row.precision == precision)
        for precision in BOTH
    }
    assert by_precision["fp32"] == by_precision["int8"]
    assert len(by_precision["int8"]) >= 3
    assert any(row.dominated for row in document.frontier if row.precision == "fp32")


@pytest.mark.usefixtures("narrow_times")
def test_where_no_budget_was_given_none_is_met(network):
    document = plan(network, "", budgets=(), frontier=3)

    assert document.feasible
    assert [row.meets for row in (*document.precisions, *document.frontier) if row.meets] == []


@pytest.mark.usefixtures("narrow_times")
def test_a_frontier_predicts_fewer_bits_by_what_they_saved_alone(network):
    document = plan(network, "", budgets=(), frontier=3)

    both = [row for row in document.frontier if row.precision == "int8" and row.options]
    assert both
    assert all(abs(row.prediction_error[CPU]) < 0.02 for row in both)


@pytest.mark.usefixtures("narrow_times")
def test_one_precision_is_as_before(network):
    assert plan(network, "0.8x", ("fp32",)).precisions == ()


def test_a_precision_that_does_not_exist_is_an_input_error(network):
    told = CliRunner().invoke(
        app,
        ["plan", str(network), "--target", CPU, "--budget", "0.8x", "--precision", "int7"],
    )

    assert isinstance(told.exception, InputError)
    assert "no precision 'int7'; there are: fp32, fp16, int8" in str(told.exception)


@pytest.mark.usefixtures("narrow_times")
def test_eight_bits_cost_an_activation_where_something_else_costs_nothing(network):
    """Two convolutions with nothing in between can be merged for no loss at all."""
    model = onnx.load(network)
    relu = next(node for node in model.graph.node if node.name == "relu0")
    model.graph.node.remove(relu)
    next(node for node in model.graph.node if node.name == "conv1").input[0] = "conv0"
    onnx.save(model, network)
    assert any(not option.sites for option in map_model(load_model(network)).options)

    document = plan(network, "0.6x")

    alone = next(row for row in document.precisions if row.precision == "int8" and not row.options)
    assert alone.predicted_loss == pytest.approx(1.0)


@pytest.mark.usefixtures("narrow_times")
@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("--budget", "0.6x"), "in int8 it meets every budget: 0 "),
        ((), "\nno budget was given: 0 "),
    ],
)
def test_the_last_line_is_a_sentence(network, asked, says):
    command = ["plan", str(network), "--target", CPU, "--rounds", "2", "--frontier", "2"]

    told = CliRunner().invoke(app, [*command, *asked, "--precision", "fp32", "--precision", "int8"])

    assert says in told.stdout
