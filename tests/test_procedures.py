"""The published loop on scikit-learn's digits: what it removes, when it stops, what it keeps."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter
from report_cases import Page
from torch import fx

from pipeline.datasets import Split, load_dataset
from pipeline.edits.tracing import sites, trace
from pipeline.finetune import accuracy
from pipeline.jobs import iterative, procedures
from pipeline.jobs.dense import dense_network
from pipeline.jobs.iterative_document import IterativeDocument, show_iterative
from pipeline.jobs.job import Job
from pipeline.jobs.procedures import Iterated, iterate
from pipeline.recipe import load_recipe
from pipeline.reporting.progress import Reporter
from pipeline.verbs.remaking import remake
from pipeline.workspace import Workspace
from runtimes.errors import InputError

RECIPE = """
name = "loop"
threads = 1
verify = []
[model]
spec = "resnet18"
options = {{ width = 4 }}
[data]
dataset = "digits"
[train]
epochs = 1
batch_size = 100
[calibration]
images = 100
[plan]
rounds = 6
[procedure]
kind = "iterative"
{procedure}
[[targets]]
name = "x86-cpu"
budget = "100x"
"""


@dataclass
class Loop:
    folder: Path

    def recipe(self, **procedure: object):
        lines = (f"{key} = {str(value).lower()}" for key, value in procedure.items())
        path = self.folder / "loop.toml"
        path.write_text(RECIPE.format(procedure="\n".join(lines).replace("'", '"')))
        return load_recipe(path)

    @contextmanager
    def job(self, **procedure: object) -> Iterator[Job]:
        recipe, reporter = self.recipe(**procedure), Reporter(quiet=True)
        splits = load_dataset("digits", cache=self.folder, reporter=reporter)
        with Workspace(self.folder / "workspace", resume=True) as workspace:
            yield Job(recipe, splits, workspace, reporter)

    def run(self, **procedure: object) -> tuple[fx.GraphModule, Iterated, Split]:
        with self.job(**procedure) as job:
            model, folder = dense_network(job)
            dense = trace(model, job.example)
            return dense, iterate(job, dense, folder), job.splits.validation


@pytest.fixture(scope="module")
def loop(tmp_path_factory) -> Loop:
    return Loop(tmp_path_factory.mktemp("loop"))


def test_every_round_removes_and_trains_on(loop):
    dense, found, validation = loop.run(criterion="'easier'", tolerance=1.0, rounds=2)

    assert [len(point.removed) for point in found.curve.points] == [1, 1]
    assert [point.epochs for point in found.curve.points] == [1, 2]
    assert [point.activations for point in found.curve.points] == [16, 15]
    gone = {site.id for site in sites(dense)} - {site.id for site in sites(found.model)}
    assert gone == set(found.removed)
    assert found.curve.points[-1].validation == accuracy(found.model, validation)
    assert found.curve.dense_validation == accuracy(dense, validation)


def test_several_at_a_time_in_one_round_is_one_shot(loop):
    _, found, _ = loop.run(criterion="'residual'", tolerance=1.0, rounds=1, per_round=5)

    assert len(found.curve.points) == 1
    assert len(found.removed) == 5


def test_the_loop_ends_at_the_first_round_that_falls_too_far(loop, monkeypatch):
    real = procedures.accuracy
    monkeypatch.setattr(
        procedures, "accuracy", lambda m, s: real(m, s) if len(sites(m)) > 15 else -1.0
    )

    _, found, _ = loop.run(criterion="'easier'", tolerance=0.9, rounds=5)

    assert [point.passed for point in found.curve.points] == [True, False]
    assert len(sites(found.model)) == 16
    assert found.removed == found.curve.points[0].removed


def test_without_a_round_that_passed_the_dense_network_is_kept(loop, monkeypatch):
    real = procedures.accuracy
    monkeypatch.setattr(
        procedures, "accuracy", lambda m, s: real(m, s) if len(sites(m)) == 17 else -1.0
    )

    dense, found, _ = loop.run(criterion="'easier'", tolerance=0.0, rounds=3)

    assert found.model is dense
    assert found.removed == ()
    assert len(found.curve.points) == 1


def test_the_dense_network_is_trained_as_long_beside_it(loop):
    _, found, _ = loop.run(criterion="'easier'", tolerance=1.0, rounds=2)
    _, alone, _ = loop.run(criterion="'easier'", tolerance=1.0, rounds=1, control=False)

    controls = [point.control_validation for point in found.curve.points]
    assert all(control is not None for control in controls)
    assert controls[0] != found.curve.dense_validation
    assert alone.curve.points[0].control_validation is None
    assert alone.curve.points[0].validation == found.curve.points[0].validation


@pytest.mark.parametrize("criterion", ["easier", "nepenthe", "tlc", "residual"])
def test_a_resumed_loop_is_the_same_without_training(loop, criterion, monkeypatch):
    settings = {"criterion": f"'{criterion}'", "tolerance": 1.0, "rounds": 2, "control": False}
    _, first, validation = loop.run(**settings)

    def no_training(*_: object, **__: object) -> None:
        raise AssertionError("it trained again")

    monkeypatch.setattr(procedures, "train", no_training)
    _, again, _ = loop.run(**settings)

    assert again.curve == first.curve
    images = validation.images[:50]
    torch.testing.assert_close(again.model(images), first.model(images), rtol=0, atol=0)


def test_nepenthe_leaves_its_masks_in_place_from_round_to_round(loop):
    _, found, _ = loop.run(criterion="'nepenthe'", tolerance=1.0, rounds=2, control=False)

    masks = [m for name, m in found.model.named_buffers() if name.startswith("mask.")]
    assert sum(int((mask == 0).sum()) for mask in masks) > 0


@pytest.mark.parametrize("criterion", ["easier", "nepenthe", "tlc", "residual"])
def test_the_job_ends_in_a_verified_and_measured_artifact(loop, criterion):
    recipe = loop.recipe(
        criterion=f"'{criterion}'", tolerance=1.0, rounds=1, per_round=3, control=False
    )

    document = iterative.compress(
        recipe, Reporter(quiet=True), out=loop.folder / "job", resume=True
    )

    assert document.verdict == "PASS", document.reasons
    assert Path(document.shallow.artifact).is_file()
    assert document.shallow.activations == 17 - len(document.removed_sites)
    assert [parity.passed for parity in document.parity] == [True]
    assert [measured.target for measured in document.measured] == ["x86-cpu"]
    stored = TypeAdapter(IterativeDocument).validate_json(
        (loop.folder / "job" / "iterative.json").read_bytes()
    )
    assert stored == document
    text = Page(Path(document.report).read_text())
    assert (text.fetched, text.mismatched, text.open) == ([], [], [])
    assert f"{len(document.removed_sites)} of 17 activations were removed in 1 round" in text.words
    assert show_iterative(document)
    whole = Path(document.report).read_text()
    Path(document.report).unlink()
    assert remake(loop.folder / "job").markdown is None
    assert Path(document.report).read_text() == whole


@pytest.mark.parametrize(
    ("procedure", "complaint"),
    [
        ({"criterion": "'eazier'"}, r"easier, nepenthe, residual, tlc; did you mean 'easier'"),
        ({"per_round": 0}, r"procedure.per_round = 0: .* greater than or equal to 1"),
        ({"toleranse": 0.1}, r"unknown key 'procedure.toleranse'; did you mean 'tolerance'"),
    ],
)
def test_a_mistake_in_the_procedure_names_the_key(loop, procedure, complaint):
    with pytest.raises(InputError, match=complaint):
        loop.recipe(**procedure)


def test_an_unknown_setting_of_the_criterion_is_refused(loop):
    with pytest.raises(InputError, match="'easier' has no option 'zeta'"):
        loop.run(criterion="'easier'", options="{ zeta = 0.5 }")
