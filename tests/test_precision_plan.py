"""Depth and precision planned together, on a device whose times follow from the network."""

from dataclasses import replace

import pytest
from known_times import CPU, Device
from pydantic import TypeAdapter
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.mapping import load_model, map_model
from pipeline.plans import workbench
from pipeline.reporting.plan_document import PlanDocument
from pipeline.reporting.progress import Reporter
from pipeline.verbs import precision_bench
from pipeline.verbs.planned import Wish
from pipeline.verbs.precision_plan import plan_in_precisions
from runtimes.errors import InputError
from runtimes.onnx_file import read_declared

QUIET = Reporter(quiet=True)
BOTH = ("fp32", "int8")


class NarrowDevice(Device):
    """Eight bits take a share of what the same network takes in fp32; `narrow` counts them."""

    def __init__(self):
        super().__init__()
        self.narrow = 0
        self.share_of = lambda _: 0.5

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
def test_one_precision_is_as_before(network):
    assert plan(network, "0.8x", ("fp32",)).precisions == ()


def test_a_precision_that_does_not_exist_is_an_input_error(network):
    told = CliRunner().invoke(
        app,
        ["plan", str(network), "--target", CPU, "--budget", "0.8x", "--precision", "int7"],
    )

    assert isinstance(told.exception, InputError)
    assert "no precision 'int7'; there are: fp32, fp16, int8" in str(told.exception)
