"""Depth and precision planned together, on a device whose times follow from the network."""

from contextlib import closing
from dataclasses import replace

import onnx
import pytest
from known_times import CPU, Device
from pydantic import TypeAdapter
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.mapping import load_model, map_model
from pipeline.plans import workbench
from pipeline.plans.demands import Demands
from pipeline.reporting.plan_document import PlanDocument
from pipeline.reporting.progress import Reporter
from pipeline.verbs import precision_bench
from pipeline.verbs.planned import Wish
from pipeline.verbs.precision_plan import plan_in_precisions
from profiles.store import Store, registry_folder
from runtimes.errors import InputError, NothingMeasured
from runtimes.onnx_file import read_declared

QUIET = Reporter(quiet=True)
BOTH = ("fp32", "int8")


class NarrowDevice(Device):
    """Eight bits take a share of what the same network takes in fp32; `narrow` counts them."""

    def __init__(self):
        super().__init__()
        self.narrow = 0
        self.last: int | None = None  # disappears before this measurement
        self.share_of = lambda _: 0.5

    def measure(self, target, paths, **others):
        if len(self.calls) == self.last:
            raise NothingMeasured("the worker died during 'block' (signal SIGKILL)")
        return super().measure(target, paths, **others)

    def _ns(self, target, path, slower):
        if read_declared(path).precision != "int8":
            return super()._ns(target, path, slower)
        self.narrow += 1
        source = path.parent / "planned.onnx"
        whole = len(map_model(load_model(source)).sites) == 4
        return int(self.share_of(whole) * super()._ns(target, source, slower))


@pytest.fixture
def device(monkeypatch):
    found = NarrowDevice()
    for module in (workbench, precision_bench):
        monkeypatch.setattr(module, "measure", found.measure)
    return found


def plan(network, budget, precisions=BOTH, **more):
    asked = replace(Wish(network, (CPU,), (budget,), rounds=2, max_rounds=4), **more)
    return plan_in_precisions(asked, precisions, QUIET)


def shown(document):
    return [(row.precision, bool(row.options)) for row in document.precisions]


@pytest.mark.usefixtures("device")
def test_eight_bits_alone_are_chosen_where_depth_would_lose_more(network):
    document = plan(network, "0.6x")

    assert document.feasible
    assert (document.precision, document.plan.options) == ("int8", ())
    assert document.measured_ms[CPU].ratio == pytest.approx(0.5, rel=1e-3)
    assert document.targets[0].budget == "0.6x"


@pytest.mark.usefixtures("device")
def test_a_cap_says_what_the_chosen_network_has_of_it(network):
    """The plan in fp32, which was not chosen, removes some."""
    document = plan(network, "0.6x", demands=Demands(max_removed=3))

    assert (document.precision, document.plan.options) == ("int8", ())
    assert document.rules.caps[0].planned == 0


@pytest.mark.usefixtures("device")
def test_depth_alone_is_chosen_where_it_loses_less(network, monkeypatch):
    monkeypatch.setitem(precision_bench.PENALTIES, "int8", 50.0)

    document = plan(network, "0.8x")

    assert document.feasible
    assert document.precision == "fp32"
    assert len(document.plan.removed_sites) == 1


@pytest.mark.usefixtures("device")
def test_both_are_chosen_where_neither_is_enough(network):
    document = plan(network, "0.4x")

    assert document.feasible
    assert document.precision == "int8"
    assert document.plan.options
    assert document.measured_ms[CPU].interval_ms[1] <= 0.4 * document.dense_ms[CPU].median_ms
    fitted = pytest.approx(len(document.plan.removed_sites) + 1, abs=0.01)  # a fit loses a little
    assert document.plan.predicted_loss == fitted


@pytest.mark.usefixtures("device")
def test_the_rows_show_depth_precision_and_both(network):
    document = plan(network, "0.4x")

    assert set(shown(document)) == {
        ("fp32", False), ("fp32", True), ("int8", False), ("int8", True),
    }  # fmt: skip
    losses = [row.predicted_loss for row in document.precisions]
    assert losses == sorted(losses)


def test_the_scale_that_was_measured_corrects_the_next_plan(network, device):
    """With depth the saving of eight bits is smaller than on the dense network."""
    device.share_of = lambda whole: 0.5 if whole else 0.7

    document = plan(network, "0.4x")

    both = [row for row in document.precisions if row.precision == "int8" and row.options]
    assert len(both) > 1
    assert document.feasible
    assert document.measured_ms[CPU].interval_ms[1] <= 0.4 * document.dense_ms[CPU].median_ms


def test_eight_bits_that_are_slower_are_measured_and_left(network, device):
    device.share_of = lambda _: 1.3

    document = plan(network, "0.8x")

    assert document.feasible
    assert document.precision == "fp32"
    assert max(row.measured_ms[CPU].ratio or 1 for row in document.precisions) > 1.2


@pytest.mark.usefixtures("device")
def test_out_of_reach_in_every_precision_names_the_nearest(network):
    document = plan(network, "0.01x")

    assert not document.feasible
    assert document.precision == "int8"
    assert "nearest is in int8, and over the budget" in document.reasons[0]
    assert document.fastest_ms == {CPU: document.measured_ms[CPU].median_ms}


def test_a_budget_already_met_needs_no_fewer_bits(network, device):
    document = plan(network, "1.5x")

    assert (document.precision, document.plan.options) == ("fp32", ())
    assert device.narrow == 0


@pytest.mark.usefixtures("device")
def test_a_plan_from_a_file_is_measured_in_its_precision(network, tmp_path):
    first = plan(network, "0.4x", out=tmp_path / "plan.json")

    again = plan(None, "0.4x", (), source=tmp_path / "plan.json", targets=(), budgets=())

    assert again.precision == "int8"
    assert again.predicted_ms == pytest.approx(first.predicted_ms, rel=1e-3)
    assert [o.id for o in again.plan.options] == [o.id for o in first.plan.options]
    assert again.measured_ms[CPU].ratio == pytest.approx(first.measured_ms[CPU].ratio, rel=1e-3)
    assert TypeAdapter(PlanDocument).validate_json((tmp_path / "plan.json").read_bytes()) == first


@pytest.mark.usefixtures("device")
def test_a_frontier_has_every_plan_in_every_precision(network):
    document = plan(network, "0.4x", frontier=3)

    by_precision = {
        precision: sorted(row.options for row in document.frontier if row.precision == precision)
        for precision in BOTH
    }
    assert by_precision["fp32"] == by_precision["int8"]
    assert len(by_precision["int8"]) >= 3
    assert any(row.dominated for row in document.frontier if row.precision == "fp32")


@pytest.mark.usefixtures("device")
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


@pytest.mark.usefixtures("device")
def test_without_a_budget_what_must_go_goes_in_every_precision(network):
    first, *_ = map_model(load_model(network)).sites

    document = plan(network, "", budgets=(), frontier=2, demands=Demands(remove=(first.id,)))

    assert shown(document) == [("fp32", True), ("int8", True)]
    assert all(first.id in row.removed_sites for row in document.precisions)


@pytest.mark.usefixtures("device")
def test_where_no_budget_was_given_none_is_met(network):
    document = plan(network, "", budgets=(), frontier=3)

    assert document.feasible
    assert [row.meets for row in (*document.precisions, *document.frontier) if row.meets] == []


def test_what_was_measured_in_eight_bits_is_not_measured_again(network, device):
    device.drift = 0.01

    document = plan(network, "", budgets=(), frontier=3)

    alone = [row for row in (*document.precisions, *document.frontier)
             if row.precision == "int8" and not row.options]  # fmt: skip
    assert len(alone) == 2
    assert alone[0].measured_ms == alone[1].measured_ms


@pytest.mark.usefixtures("device")
def test_a_frontier_has_no_precision_that_was_not_asked_for(network):
    document = plan(network, "", ("int8",), budgets=(), frontier=3)

    assert {row.precision for row in document.frontier} == {"int8"}


@pytest.mark.usefixtures("device")
def test_a_frontier_predicts_fewer_bits_by_what_they_saved_alone(network):
    document = plan(network, "", budgets=(), frontier=3)

    both = [row for row in document.frontier if row.precision == "int8" and row.options]
    assert both
    assert all(abs(row.prediction_error[CPU]) < 0.02 for row in both)


def test_a_precision_that_the_network_cannot_have_is_refused_before_measuring(network, device):
    model = onnx.load(network)
    large = onnx.numpy_helper.to_array(model.graph.initializer[0]) * 1e9
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(large, "weight0"))
    onnx.save(model, network)

    with pytest.raises(InputError, match="fp16 ends at"):
        plan(network, "0.6x", ("fp32", "fp16"))

    assert device.calls == []


def test_wherever_it_is_cut_short_it_goes_on_and_writes_nothing_until_it_is_done(
    network, device, tmp_path
):
    out = tmp_path / "plan.json"
    first = plan(network, "0.4x")
    alone = len(device.calls)
    with closing(Store(registry_folder())) as store:
        store.connection.execute("DELETE FROM latencies")
    device.calls.clear()

    for last in range(alone):
        device.last = last
        with pytest.raises(NothingMeasured, match="the same command goes on there"):
            plan(network, "0.4x", out=out)
        assert len(device.calls) == last
        assert not out.exists()
    device.last = None
    document = plan(network, "0.4x", out=out)

    assert len(device.calls) == alone
    assert document.plan == first.plan
    assert TypeAdapter(PlanDocument).validate_json(out.read_bytes()) == document
    plan(network, "0.4x")
    assert len(device.calls) > alone  # a plan that is finished is measured anew


@pytest.mark.usefixtures("device")
def test_one_precision_is_as_before(network):
    assert plan(network, "0.8x", ("fp32",)).precisions == ()


def test_a_precision_that_does_not_exist_is_an_input_error(network):
    told = CliRunner().invoke(
        app,
        ["plan", str(network), "--target", CPU, "--budget", "0.8x", "--precision", "int7"],
    )

    assert isinstance(told.exception, InputError)
    assert "no precision 'int7'; there are: fp32, fp16, int8" in str(told.exception)


@pytest.mark.usefixtures("device")
def test_an_open_dimension_is_planned_at_the_shape_that_is_given(make_network, tmp_path):
    path, out = make_network(convolutions=3, height="h"), tmp_path / "plan.json"
    shapes = {"image": (1, 3, 24, 12)}

    document = plan(path, "0.4x", ("int8",), shapes=shapes, out=out)
    again = plan(None, "0.4x", (), source=out, targets=(), budgets=())

    assert document.precision == "int8"
    assert document.shapes == again.shapes == shapes


@pytest.mark.usefixtures("device")
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
