"""What `shoal plan` reads is what it expects, or is refused in one sentence."""

from __future__ import annotations

import json

import pytest

from pipeline.mapping import Map, load_model, map_model
from pipeline.verbs.plan_file import goals_of, losses_of, options_of, predicted_ratios, read_plan
from runtimes.errors import InputError


@pytest.fixture
def found(make_network) -> Map:
    return map_model(load_model(make_network(convolutions=3)))


@pytest.mark.parametrize(
    ("targets", "budgets", "message"),
    [
        (["x86-cpu"], [], "1 targets and 0 budgets.*--frontier needs a --target, but no --budget"),
        ([], [], "0 targets"),
        (["x86-cpu", "x86-cpu"], ["1x", "2x"], "given twice"),
        (["x86-cpu"], ["fast"], "not a time"),
        (["x86-cqu"], ["1x"], "did you mean 'x86-cpu'"),
    ],
)
def test_targets_without_their_budgets_are_refused(targets, budgets, message):
    with pytest.raises(InputError, match=message):
        goals_of(targets, budgets, None)


def test_budgets_belong_to_targets_in_their_order():
    goals = goals_of(["x86-openvino", "x86-cpu"], ["5ms", "0.6x"], None)

    assert [(goal.target.name, goal.budget.text) for goal in goals] == [
        ("x86-openvino", "5ms"),
        ("x86-cpu", "0.6x"),
    ]


@pytest.mark.parametrize("wrapped", [False, True])
def test_options_are_ids_or_records_that_have_one(found, tmp_path, wrapped):
    ids = [found.options[0].id]
    path = tmp_path / "plan.json"
    plan = {"options": [{"id": id_} for id_ in ids] if wrapped else ids}
    path.write_text(json.dumps({"plan": plan} if wrapped else plan))

    assert [o.id for o in options_of(read_plan(path), found.options, path)] == ids


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a plan"),
        ('{"plan": {"options": [7]}}', r"plan\.options\.0"),
        ('{"options": ["nowhere/merge-5x5@0-1"]}', "which this network does not have"),
        ('{"options": TWICE}', "replace the same operators"),
    ],
)
def test_a_file_that_is_no_plan_of_this_network_is_refused(found, tmp_path, content, message):
    twice = json.dumps([found.options[0].id, found.options[1].id])
    path = tmp_path / "plan.json"
    path.write_text(content.replace("TWICE", twice))

    with pytest.raises(InputError, match=message):
        options_of(read_plan(path), found.options, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "is not scores"),
        ('{"sites": []}', "has no score of"),
        ('{"sites": [{"id": "a", "score": NaN}]}', r"sites\.0\.score"),
        ('{"sites": [{"id": "a", "score": 1}, {"id": "a", "score": 2}]}', "two scores of a"),
    ],
)
def test_a_file_that_is_no_scores_of_this_network_is_refused(found, tmp_path, content, message):
    path = tmp_path / "scores.json"
    path.write_text(content)

    with pytest.raises(InputError, match=message):
        losses_of(found.options, path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_plan(tmp_path / "plan.json")


def test_losses_are_sums_over_the_removed_sites(found, tmp_path):
    path = tmp_path / "scores.json"
    sites = [{"id": site.id, "score": 10.0**i} for i, site in enumerate(found.sites)]
    path.write_text(json.dumps({"criterion": "tlc", "sites": sites}))
    longest = max(found.options, key=lambda option: len(option.sites))

    assert len(longest.sites) == 2
    assert losses_of([longest], path) == {longest.id: 11.0}
    assert losses_of([longest], None) == {longest.id: 2.0}


def test_predictions_are_kept_relative_to_the_dense_network_of_their_time(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(
        json.dumps(
            {
                "plan": {"options": []},
                "predicted_ms": {"x86-cpu": 3.0, "gone": 1.0},
                "dense_ms": {"x86-cpu": {"median_ms": 4.0}},
            }
        )
    )

    filed, goals = read_plan(path), goals_of(["x86-cpu", "x86-openvino"], ["1x", "1x"], None)
    assert predicted_ratios(filed, goals, "fp32") == {"x86-cpu": 0.75}
    assert predicted_ratios(filed, goals[1:], "fp32") == {}  # of no target that was not asked for
    assert predicted_ratios(filed, goals, "int8") == {}


def test_a_row_of_a_frontier_is_a_plan_in_its_precision(tmp_path):
    path = tmp_path / "row.json"
    path.write_text(json.dumps({"precision": "int8", "options": []}))

    assert read_plan(path).precision == "int8"
