"""When a gate may stop looking: what is open, and what is sure enough among so many comparisons."""

from pathlib import Path

import pytest
from test_measurement import measurement

from pipeline.devices.gating import Job, _enough
from profiles.comparison import log_ratios
from profiles.gate import FAIL, INCONCLUSIVE, PASS, Rule, decide
from profiles.target import Target
from runtimes.errors import InputError

BASELINE = measurement()


def job(models=1, budgets=(), looks=(10, 15, 20)):
    return Job(
        baselines=["a.onnx"] * models,
        candidates=[Path(f"{n}.onnx") for n in range(models)],
        targets=[Target("x86-cpu", "ort")],
        budgets=budgets,
        rule=Rule(0.02, 0.01, looks),
    )


def asked_again(job, scale):
    """(verdict of the look, whether it may be the last)"""
    candidate = measurement("b.onnx", scale)
    decision = decide(log_ratios(candidate, BASELINE), job.rule)
    return decision.verdict, _enough(job, 0)(decision, BASELINE, candidate)


@pytest.mark.parametrize(("scale", "verdict"), [(1.0, PASS), (1.5, FAIL)])
def test_one_comparison_ends_with_its_verdict(scale, verdict):
    assert asked_again(job(), scale) == (verdict, True)


@pytest.mark.parametrize(("models", "last"), [(3, True), (4, False)])
def test_a_fail_goes_on_until_it_is_sure_among_all_comparisons(models, last):
    """Ten rounds and three looks reach p = 3 / 2^10: enough for Holm among three, not four."""
    assert asked_again(job(models), 1.5) == (FAIL, last)


def test_a_pass_is_not_held_up_by_the_other_comparisons():
    assert asked_again(job(models=9), 1.0) == (PASS, True)


@pytest.mark.parametrize(("budget", "last"), [("100ms", True), ("5ms", False), ("2x", True)])
def test_an_open_budget_asks_for_more_rounds(budget, last):
    assert asked_again(job(budgets=[budget]), 1.0) == (PASS, last)


def test_a_budget_missed_by_one_of_many_goes_on_until_it_is_sure():
    assert asked_again(job(models=4, budgets=["0.5x"]), 1.0) == (PASS, False)
    assert asked_again(job(models=1, budgets=["0.5x"]), 1.0) == (PASS, True)


def test_what_is_undecided_goes_on():
    few = job(looks=(10,))
    decision = decide([0.0] * 6, few.rule)

    assert decision.verdict == INCONCLUSIVE
    assert not _enough(few, 0)(decision, BASELINE, BASELINE)


def test_models_are_called_by_their_stems_unless_two_share_one():
    paths = [Path("a/net.onnx"), Path("b/net.onnx"), Path("b/other.onnx")]

    named = Job(candidates=paths, budgets=["1ms"], targets=[Target("x86-cpu", "ort")])

    assert named.labels == ("a/net", "b/net", "other")


def test_one_model_beside_two_baselines_is_numbered():
    assert Job(
        baselines=["v1.onnx", "v2.onnx"], candidates=[Path("net.onnx")] * 2,
        targets=[Target("x86-cpu", "ort")],
    ).labels == ("net (1)", "net (2)")  # fmt: skip


def test_a_target_given_twice_is_refused():
    with pytest.raises(InputError, match="--target x86-cpu is given twice"):
        Job(candidates=[Path("net.onnx")], budgets=["1ms"] * 2,
            targets=[Target("x86-cpu", "ort")] * 2)  # fmt: skip
