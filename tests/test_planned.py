"""`shoal plan` from file to file: mostly on a device of known times, once on the real one."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from known_times import CPU, OPENVINO, by_macs
from plan_wish import QUIET, wish
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.mapping import load_model, map_model
from pipeline.plans import latency_table
from pipeline.verbs.planned import plan_file
from runtimes.errors import InputError

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.usefixtures("known_times")
def test_the_measured_network_meets_the_budget(network):
    document = plan_file(wish(network, "0.8x"), QUIET)

    assert document.feasible
    assert document.measured_ms[CPU].interval_ms[1] <= 0.8 * document.dense_ms[CPU].median_ms
    assert document.rounds[-1].meets == {CPU: True}
    assert document.fastest_ms is None


@pytest.mark.usefixtures("known_times")
def test_without_scores_the_fewest_activations_go(network):
    """One refit of two 8 -> 8 convolutions saves less than a third, so 0.8x needs but one."""
    document = plan_file(wish(network, "0.8x"), QUIET)

    assert document.loss == "sites"
    assert len(document.plan.removed_sites) == 1
    assert 1 <= document.plan.predicted_loss < 1.001  # one site, and what a refit gives up
    assert len(document.plan.options) == 1


@pytest.mark.usefixtures("known_times")
def test_a_file_of_scores_decides_which_activations_go(network, tmp_path):
    found = map_model(load_model(network))
    inner = [site.id for site in found.sites[1:3]]
    removed = []
    for dear in inner:
        sites = [{"id": s.id, "score": 5.0 if s.id == dear else 1.0} for s in found.sites]
        scores = tmp_path / "scores.json"
        scores.write_text(json.dumps({"schema": "shoal.score/1", "sites": sites}))
        removed.append(plan_file(wish(network, "0.8x", scores=scores), QUIET).plan.removed_sites)

    assert all(
        dear not in gone and len(gone) == 1 for dear, gone in zip(inner, removed, strict=True)
    )


@pytest.mark.usefixtures("known_times")
def test_predicted_and_measured_are_in_every_round(network):
    document = plan_file(wish(network, "0.8x", "0.95x"), QUIET)

    assert document.rounds
    for turn in document.rounds:
        assert set(turn.predicted_ms) == set(turn.measured_ms) == {CPU, OPENVINO}
        assert set(turn.prediction_error) == {CPU, OPENVINO}


@pytest.mark.usefixtures("known_times")
def test_a_table_that_adds_up_predicts_what_is_measured(network):
    document = plan_file(wish(network, "0.6x"), QUIET)

    assert document.rounds[0].prediction_error[CPU] == pytest.approx(0, abs=0.02)


def test_two_targets_that_disagree_get_one_plan_that_meets_both(known_times, network):
    """One is quicker without the first convolution alone, the other without the last alone."""
    found = map_model(load_model(network))
    first, last = found.operators[0].node, found.operators[-1].node
    known_times.times = {
        CPU: lambda built: 1.0 + (first in {o.node for o in built.operators}),
        OPENVINO: lambda built: 1.0 + (last in {o.node for o in built.operators}),
    }

    here = plan_file(wish(network, "0.6x", "2x"), QUIET)
    there = plan_file(wish(network, "2x", "0.6x"), QUIET)
    both = plan_file(wish(network, "0.6x", "0.6x"), QUIET)

    assert here.plan.removed_sites == (found.sites[0].id,)
    assert there.plan.removed_sites == (found.sites[2].id,)
    assert set(both.plan.removed_sites) == {found.sites[0].id, found.sites[2].id}
    assert both.rounds[-1].meets == {CPU: True, OPENVINO: True}


@pytest.mark.usefixtures("known_times")
def test_an_unreachable_budget_says_what_the_fastest_plan_measures(network):
    document = plan_file(wish(network, "0.01x"), QUIET)

    assert not document.feasible
    assert document.fastest_ms == {CPU: document.measured_ms[CPU].median_ms}
    assert document.measured_ms[CPU].median_ms < document.dense_ms[CPU].median_ms
    assert "0.01x" in document.reasons[0]


def test_where_every_option_is_slower_the_network_itself_is_the_fastest(known_times, network):
    known_times.times[CPU] = lambda found: 10.0 - len(found.operators)

    document = plan_file(wish(network, "0.9x"), QUIET)

    assert not document.feasible
    assert document.fastest_ms == {CPU: document.dense_ms[CPU].median_ms}
    assert document.plan.options == ()


def test_a_budget_already_met_keeps_everything_without_a_table(known_times, network):
    document = plan_file(wish(network, "100ms", "1x"), QUIET)

    assert document.feasible
    assert document.plan.options == ()
    assert document.plan.macs_after == document.plan.macs_before
    assert known_times.calls == [2, 2]  # dense and the yardstick on both targets


@pytest.mark.usefixtures("known_times")
@pytest.mark.parametrize(("budget", "feasible"), [("100ms", True), ("0.5x", False)])
def test_a_network_with_nothing_to_remove_is_kept(make_network, budget, feasible):
    document = plan_file(wish(make_network(convolutions=1), budget), QUIET)

    assert document.feasible is feasible
    assert document.plan.options == document.rounds == ()
    assert (document.fastest_ms is None) is feasible
    assert "nothing can be removed" in document.reasons[0] or feasible


def test_batches_of_variants_give_the_table_of_one_batch(
    known_times, network, monkeypatch, tmp_path
):
    """Every batch has dense beside it: a host that slows down in between is no gain."""
    known_times.drift = 0.1
    whole = plan_file(wish(network, "0.6x"), QUIET)
    known_times.calls.clear()
    monkeypatch.setenv("SHOAL_REGISTRY", str(tmp_path / "another"))
    monkeypatch.setattr(latency_table, "BATCH_BYTES", 3 * network.stat().st_size)

    small = plan_file(wish(network, "0.6x"), QUIET)

    assert known_times.calls[1] <= 4
    assert len(known_times.calls) > 4
    assert [o.id for o in small.plan.options] == [o.id for o in whole.plan.options]
    for one, other in zip(small.plan.options, whole.plan.options, strict=True):
        mine, theirs = one.difference[CPU].measured_ms, other.difference[CPU].measured_ms
        assert mine == pytest.approx(theirs, rel=1e-3)


def test_what_was_measured_of_a_table_outlives_a_kill(known_times, network, monkeypatch):
    """Between two batches of it; the rest alone is measured afterwards."""
    monkeypatch.setattr(latency_table, "BATCH_COUNT", 2)
    measure = known_times.measure

    def killed(target, paths, **others):
        if len(known_times.calls) == 3:
            raise SystemExit("as by kill -9: nothing is tidied up")
        return measure(target, paths, **others)

    monkeypatch.setattr("pipeline.plans.workbench.measure", killed)
    with pytest.raises(SystemExit):
        plan_file(wish(network, "0.6x"), QUIET)
    monkeypatch.setattr("pipeline.plans.workbench.measure", measure)
    known_times.calls.clear()

    made = plan_file(wish(network, "0.6x"), QUIET)

    assert made.tables[CPU].from_cache == 4
    assert known_times.calls[0] == 3  # dense was measured too: the first call is a batch of two


@pytest.mark.usefixtures("known_times")
def test_the_same_table_gives_the_same_plan(network):
    first, again = (plan_file(wish(network, "0.6x"), QUIET) for _ in range(2))

    assert first.tables[CPU].from_cache == 0
    assert again.tables[CPU].from_cache == again.tables[CPU].entries > 0
    same = {"date": "", "fingerprint": first.fingerprint, "tables": first.tables}
    assert replace(first, **same) == replace(again, **same)


def test_temporary_files_go_where_they_came_from(known_times, network, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    seen = []
    known_times.times[CPU] = lambda found: seen.append(list(scratch.iterdir())) or by_macs(found)

    plan_file(wish(network, "0.6x"), QUIET)

    assert seen[0]
    assert list(scratch.iterdir()) == []


def test_a_folder_that_is_not_there_is_refused_before_measuring(known_times, network, tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        plan_file(wish(network, "0.6x", out=tmp_path / "none" / "plan.json"), QUIET)

    assert known_times.calls == []


@pytest.mark.usefixtures("known_times")
@pytest.mark.parametrize(("budget", "code"), [("0.8x", 0), ("0.01x", 3)])
def test_the_exit_code_says_whether_the_budget_is_met(network, budget, code):
    done = CliRunner().invoke(
        app, ["plan", str(network), "--target", CPU, "--budget", budget, "--json"]
    )

    assert done.exit_code == code
    assert json.loads(done.stdout)["feasible"] is (code == 0)


@pytest.mark.usefixtures("known_times")
def test_the_table_for_a_terminal_names_what_goes_and_what_it_takes(network):
    done = CliRunner().invoke(app, ["plan", str(network), "--target", CPU, "--budget", "0.8x"])

    assert "meets every budget: 1 activations removed" in done.stdout


def test_a_real_device_is_measured_and_measured_again(make_network, tmp_path):
    network = make_network(convolutions=2, channels=48, size=32)
    out = tmp_path / "plan.json"
    options = ["--target", CPU, "--budget", "0.001x", "--rounds", "1", "--max-rounds", "1"]

    done = CliRunner().invoke(
        app, ["plan", str(network), *options, "--out", str(out), "--json", "--quiet"]
    )
    again = CliRunner().invoke(app, ["plan", "--from", str(out), "--rounds", "1", "--json"])

    first, second = json.loads(done.stdout), json.loads(again.stdout)
    assert (done.exit_code, again.exit_code) == (3, 3)
    assert first["offered"] > 0
    assert 0 < first["fastest_ms"][CPU] <= 10 * first["dense_ms"][CPU]["median_ms"]
    assert second["plan"]["removed_sites"] == first["plan"]["removed_sites"]


@pytest.mark.parametrize(
    ("module", "brings"),
    [("verbs.planned", False), ("verbs.plan_verb", False), ("jobs.selection", True)],
)
def test_planning_needs_no_torch(module, brings):
    """`selection` is the same for compress, which trains: the guard can fail."""
    code = f"import sys, pipeline.{module}; print('torch' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)

    assert (done.stdout.strip(), done.stderr) == (str(brings), "")
