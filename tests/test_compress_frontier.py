"""Several plans of one job: trained in turn, one of them chosen, on the tiny job's own stages."""

from __future__ import annotations

import json
import shutil
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from tiny_job import RECIPE, kill_when, resumed

from runtimes.onnx_file import sha256

PLAN = "max_rounds = 2\n"
FASTEST = (
    RECIPE.replace(PLAN, PLAN + 'frontier = 3\nobjective = "accuracy"\naccuracy_floor = 0.3\n')
    .replace('budget = "0.9x"\n', "")
    .replace("threads = 1\n", "threads = 1\nverify = []\n")
)


@pytest.fixture(scope="session")
def folder(job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("frontier")
    shutil.copytree(job.workspace, made / "work")
    return made


@pytest.fixture(scope="session")
def document(folder) -> dict[str, Any]:
    """No budget, and a floor that is low enough for every plan."""
    return resumed(folder, FASTEST)


def test_every_plan_is_in_the_document_with_what_it_was_predicted_and_measured(document):
    frontier = document["frontier"]

    assert 2 <= len(frontier) <= 3
    assert frontier[0]["options"] == []
    losses = [row["predicted_loss"] for row in frontier]
    assert losses == sorted(losses)
    assert all(row["predicted_ms"]["x86-cpu"] > 0 for row in frontier)
    assert all(row["measured_ms"]["x86-cpu"]["median_ms"] > 0 for row in frontier)


def test_the_loss_of_a_plan_counts_what_its_options_cost_together(document, folder):
    """Of the stages of this recipe, which has a frontier and so more options in a plan."""
    stages = folder / "work" / "stages"
    (alone,) = (json.loads(p.read_text()) for p in stages.glob("effects-*/record.json"))
    made = (json.loads(p.read_text()) for p in stages.glob("pairs-*/record.json"))
    together = {(i, j): loss for i, j, loss in max(made, key=len)}
    fastest = document["frontier"][-1]

    pairs = list(combinations(sorted(fastest["options"]), 2))

    assert pairs
    assert fastest["predicted_loss"] == pytest.approx(
        sum(alone[id_] for id_ in fastest["options"]) + sum(together[pair] for pair in pairs)
    )
    assert any(together[pair] for pair in pairs)


def test_what_no_other_plan_beats_was_trained(document):
    rows = [i for i, row in enumerate(document["frontier"]) if row["options"]]
    trained = [candidate["frontier"] for candidate in document["candidates"]]

    assert trained == [i for i in rows if not document["frontier"][i]["dominated"]]


def test_each_starts_from_its_less_compressed_neighbour(document):
    names = [candidate["name"] for candidate in document["candidates"]]

    assert [c["warm_start"] for c in document["candidates"]] == [None, *names[:-1]]


def test_the_fastest_above_the_floor_is_chosen(document):
    passed = [c for c in document["candidates"] if c["verdict"] == "PASS"]
    chosen = document["candidates"][document["chosen"]]

    assert document["verdict"] == "PASS"
    assert document["accuracy_floor"] == 0.3
    assert chosen["validation_accuracy"] >= 0.3
    assert chosen["measured_ms"]["x86-cpu"]["ratio"] == min(
        c["measured_ms"]["x86-cpu"]["ratio"] for c in passed
    )


def test_the_chosen_file_is_the_one_to_take(document, folder):
    delivered = folder / "work" / "artifacts"
    chosen = document["candidates"][document["chosen"]]

    assert [Path(a["path"]).name for a in chosen["artifacts"]] == [
        "shallow.onnx",
        f"shallow-{document['chosen'] + 1}.onnx",
    ]
    assert len({a["sha256"] for a in chosen["artifacts"]}) == 1
    assert len(list(delivered.glob("shallow-*.onnx"))) == len(document["candidates"])


def test_an_accuracy_that_no_plan_holds_fails_and_stops_at_the_first(document, folder, tmp_path):
    """Killed while it fine-tunes and resumed: stages of the other recipe do not disturb it."""
    shutil.copytree(folder / "work", tmp_path / "work")
    strict = FASTEST.replace("accuracy_floor = 0.3", "accuracy_floor = 1.0")
    (tmp_path / "tiny.toml").write_text(strict)
    students = sorted((tmp_path / "work" / "stages").glob("student-*"))
    for stage in students:
        shutil.rmtree(stage)
    kill_when(tmp_path, "student", "--resume")

    failed = resumed(tmp_path, strict)

    assert (failed["verdict"], failed["chosen"]) == ("FAIL", None)
    assert len(failed["candidates"]) == 1
    assert "is under the floor 1" in failed["candidates"][0]["reasons"][0]
    assert failed["candidates"][0]["accuracy"] == document["candidates"][0]["accuracy"]
    assert not (tmp_path / "work" / "artifacts" / "shallow.onnx").exists()
    assert sha256(tmp_path / "work" / "artifacts" / "shallow-1.onnx") in [
        a["sha256"] for a in document["candidates"][0]["artifacts"]
    ]


def test_with_a_budget_the_plan_of_the_loop_is_a_candidate_too(job, folder, tmp_path):
    shutil.copytree(folder / "work", tmp_path / "work")
    planned = RECIPE.replace(PLAN, PLAN + "frontier = 2\n").replace(
        "threads = 1\n", "threads = 1\nverify = []\n"
    )

    found = resumed(tmp_path, planned)

    names = [candidate["name"] for candidate in found["candidates"]]
    assert job.document["candidates"][0]["name"] in names
    assert [row["meets"].keys() for row in found["frontier"]] == [{"x86-cpu"}] * len(
        found["frontier"]
    )
    if found["chosen"] is not None:
        best = max(c["validation_accuracy"] for c in found["candidates"] if c["verdict"] == "PASS")
        assert found["candidates"][found["chosen"]]["validation_accuracy"] == best
