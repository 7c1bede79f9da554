"""Depth and precision planned as one job: what is asked of it, what is kept of it."""

from contextlib import closing

import onnx
import pytest
from known_times import CPU
from narrow_times import kinds, plan
from pydantic import TypeAdapter

from pipeline.mapping import load_model, map_model
from pipeline.plans.demands import Demands
from pipeline.reporting.plan_document import PlanDocument
from profiles.store import Store, registry_folder
from runtimes.errors import InputError, NothingMeasured


def test_what_was_measured_in_eight_bits_is_not_measured_again(network, narrow_times):
    narrow_times.drift = 0.01

    document = plan(network, "", budgets=(), frontier=3)

    alone = [row for row in (*document.precisions, *document.frontier)
             if row.precision == "int8" and not row.options]  # fmt: skip
    assert len(alone) == 2
    assert alone[0].measured_ms == alone[1].measured_ms


def test_a_precision_that_the_network_cannot_have_is_refused_before_measuring(
    network, narrow_times
):
    model = onnx.load(network)
    large = onnx.numpy_helper.to_array(model.graph.initializer[0]) * 1e9
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(large, "weight0"))
    onnx.save(model, network)

    with pytest.raises(InputError, match="fp16 ends at"):
        plan(network, "0.6x", ("fp32", "fp16"))

    assert narrow_times.calls == []


def test_wherever_it_is_cut_short_it_goes_on_and_writes_nothing_until_it_is_done(
    network, narrow_times, tmp_path
):
    out = tmp_path / "plan.json"
    first = plan(network, "0.4x")
    alone = len(narrow_times.calls)
    with closing(Store(registry_folder())) as store:
        store.connection.execute("DELETE FROM latencies")
    narrow_times.calls.clear()

    for last in range(alone):
        narrow_times.last = last
        with pytest.raises(NothingMeasured, match="the same command goes on there"):
            plan(network, "0.4x", out=out)
        assert len(narrow_times.calls) == last
        assert not out.exists()
    narrow_times.last = None
    document = plan(network, "0.4x", out=out)

    assert len(narrow_times.calls) == alone
    assert document.plan == first.plan
    assert TypeAdapter(PlanDocument).validate_json(out.read_bytes()) == document
    plan(network, "0.4x")
    assert len(narrow_times.calls) > alone  # a plan that is finished is measured anew


@pytest.mark.usefixtures("narrow_times")
def test_an_open_dimension_is_planned_at_the_shape_that_is_given(make_network, tmp_path):
    path, out = make_network(convolutions=3, height="h"), tmp_path / "plan.json"
    shapes = {"image": (1, 3, 24, 12)}

    document = plan(path, "0.4x", ("int8",), shapes=shapes, out=out)
    again = plan(None, "0.4x", (), source=out, targets=(), budgets=())

    assert document.precision == "int8"
    assert document.shapes == again.shapes == shapes


@pytest.mark.usefixtures("narrow_times")
def test_a_plan_from_a_file_is_measured_in_its_precision(network, tmp_path):
    first = plan(network, "0.4x", out=tmp_path / "plan.json")

    again = plan(None, "0.4x", (), source=tmp_path / "plan.json", targets=(), budgets=())

    assert again.precision == "int8"
    assert again.predicted_ms == pytest.approx(first.predicted_ms, rel=1e-3)
    assert [o.id for o in again.plan.options] == [o.id for o in first.plan.options]
    assert again.measured_ms[CPU].ratio == pytest.approx(first.measured_ms[CPU].ratio, rel=1e-3)
    assert TypeAdapter(PlanDocument).validate_json((tmp_path / "plan.json").read_bytes()) == first


@pytest.mark.usefixtures("narrow_times")
def test_a_frontier_has_no_precision_that_was_not_asked_for(network):
    document = plan(network, "", ("int8",), budgets=(), frontier=3)

    assert {row.precision for row in document.frontier} == {"int8"}


@pytest.mark.usefixtures("narrow_times")
def test_without_a_budget_what_must_go_goes_in_every_precision(network):
    first, *_ = map_model(load_model(network)).sites

    document = plan(network, "", budgets=(), frontier=2, demands=Demands(remove=(first.id,)))

    assert kinds(document) == [("fp32", True), ("int8", True)]
    assert all(first.id in row.removed_sites for row in document.precisions)


@pytest.mark.usefixtures("narrow_times")
def test_eight_bits_alone_are_no_plan_where_an_activation_must_go(network):
    """Without the demand they are enough for this budget."""
    first, *_ = map_model(load_model(network)).sites
    gone = plan(network, "0.6x", demands=Demands(remove=(first.id,)))
    fewer = plan(network, "0.6x", demands=Demands(max_operators=3))

    for document in (gone, fewer):
        assert document.feasible
        assert all(row.options for row in document.precisions)
    assert first.id in gone.plan.removed_sites
    assert fewer.rules.caps[0].planned == 3
