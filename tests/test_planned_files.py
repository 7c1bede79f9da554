"""Plans as files: written, measured again, carried out by `shoal collapse`."""

from __future__ import annotations

import json

import pytest
from known_times import CPU, OPENVINO, by_operators
from plan_wish import QUIET, wish
from pydantic import TypeAdapter

from pipeline.collapse.planned import merges_of_plan
from pipeline.mapping import load_model, map_model
from pipeline.reporting.plan_document import PlanDocument
from pipeline.verbs.planned import Wish, plan_file
from runtimes.errors import InputError


@pytest.mark.usefixtures("known_times")
def test_a_plan_file_is_built_and_measured_again(network, tmp_path):
    out = tmp_path / "plan.json"
    first = plan_file(wish(network, "0.6x", out=out), QUIET)

    again = plan_file(Wish(None, source=out, rounds=2), QUIET)

    assert again.plan.removed_sites == first.plan.removed_sites
    assert again.measured_ms == first.measured_ms
    assert again.predicted_ms == first.predicted_ms
    assert again.targets == first.targets
    assert again.feasible
    assert again.offered == 0
    assert len(again.rounds) == 1


@pytest.mark.usefixtures("known_times")
def test_the_file_is_the_document(network, tmp_path):
    out = tmp_path / "plan.json"
    document = plan_file(wish(network, "0.6x", out=out), QUIET)

    assert TypeAdapter(PlanDocument).validate_json(out.read_bytes()) == document
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.usefixtures("known_times")
def test_a_measured_plan_that_misses_another_budget_says_so(network, tmp_path):
    out = tmp_path / "plan.json"
    plan_file(wish(network, "0.8x", out=out), QUIET)

    again = plan_file(wish(None, "0.1x", source=out), QUIET)

    assert not again.feasible
    assert "does not meet 0.1x on x86-cpu" in again.reasons[0]


def test_collapse_carries_out_a_plan_of_exact_merges(known_times, network, tmp_path):
    known_times.times[CPU] = by_operators
    found = map_model(load_model(network))
    merge = next(option for option in found.options if option.kind == "merge")
    plan, out = tmp_path / "given.json", tmp_path / "plan.json"
    plan.write_text(json.dumps({"options": [merge.id]}))
    plan_file(wish(network, "0.9x", source=plan, out=out), QUIET)

    groups, sites = merges_of_plan(out, load_model(network), max_kernel=7)

    assert sites == list(merge.sites)
    assert len(groups) == 1


@pytest.mark.usefixtures("known_times")
def test_a_plan_measured_elsewhere_was_predicted_nothing_there(network, tmp_path):
    out = tmp_path / "plan.json"
    plan_file(wish(network, "0.6x", out=out), QUIET)

    again = plan_file(Wish(None, (OPENVINO,), ("0.9x",), source=out, rounds=2), QUIET)

    assert again.predicted_ms == again.rounds[0].predicted_ms == {}
    assert set(again.measured_ms) == {OPENVINO}


def test_the_network_is_not_written_over(known_times, network):
    before = network.read_bytes()

    with pytest.raises(InputError, match="is the input itself"):
        plan_file(wish(network, "0.6x", out=network), QUIET)

    assert (network.read_bytes(), known_times.calls) == (before, [])


def test_a_plan_whose_network_is_not_there_asks_for_it(tmp_path):
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"plan": {"options": []}, "model": "gone.onnx"}))

    with pytest.raises(InputError, match=r"is a plan of gone.onnx, .* give MODEL.onnx"):
        plan_file(wish(None, "1x", source=plan), QUIET)
