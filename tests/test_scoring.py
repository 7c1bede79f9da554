import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline import criteria
from pipeline.__main__ import app
from pipeline.recipe import Recipe, load_recipe
from pipeline.reporting.progress import Reporter
from pipeline.verbs.scoring import ScoreDocument, score, show_score
from runtimes.errors import InputError

RECIPE = """
name = "tiny"
[model]
spec = "resnet18"
options = { width = 4 }
[data]
dataset = "digits"
[train]
epochs = 1
batch_size = 100
[calibration]
images = 100
[[targets]]
name = "x86-cpu"
budget = "0.9x"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("score")


OWN = """
import torch
from torch import nn

def linear(num_classes, in_channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 64, num_classes))

def reviews():
    rng = torch.Generator().manual_seed(0)
    def some(count):
        ids = torch.randint(1, 30, (count, 8), generator=rng)
        mask = (torch.arange(8) < torch.randint(2, 9, (count, 1), generator=rng)).long()
        return torch.stack([ids * mask, mask], 1), ids[:, 0] % 2
    return some(60), some(40), some(20), some(20)
"""
TEXT = """
name = "text"
[model]
spec = "transformers:bert"
[model.options]
hidden_size = 8
num_hidden_layers = 2
num_attention_heads = 2
intermediate_size = 16
[data]
dataset = "own:reviews"
[train]
epochs = 1
batch_size = 20
[[targets]]
name = "x86-cpu"
budget = "0.9x"
"""


@pytest.fixture(scope="module")
def recipe(folder) -> Recipe:
    (folder / "tiny.toml").write_text(RECIPE)
    return load_recipe(folder / "tiny.toml")


def run(recipe: Recipe, folder: Path, criterion: str, **options: object) -> ScoreDocument:
    reporter = Reporter(quiet=True)
    return score(recipe, reporter, criterion=criterion, options=options, out=folder / "workspace")


@pytest.mark.parametrize("name", criteria.names())
def test_every_criterion_scores_a_recipes_network(name, recipe, folder):
    document = run(recipe, folder, name)

    assert len(document.sites) == 17
    assert sorted(site.rank for site in document.sites) == list(range(1, 18))
    least = min(document.sites, key=lambda site: site.rank)
    assert least.score == min(site.score for site in document.sites)
    assert show_score(document)


def test_what_was_never_seen_has_its_bound(recipe, folder):
    document = run(recipe, folder, "easier")

    assert document.samples == 100
    assert document.unseen_below == 0.03
    assert document.confidence == 0.95


def test_the_network_is_found_again(recipe, folder):
    first, again = (run(recipe, folder, "residual") for _ in range(2))

    assert first == again
    assert len(list((folder / "workspace" / "stages").glob("dense-*"))) == 1


def test_an_option_reaches_the_criterion(recipe, folder):
    paper = run(recipe, folder, "easier")
    code = run(recipe, folder, "easier", variant="code")

    assert [s.score for s in paper.sites] != [s.score for s in code.sites]
    assert code.options == {"variant": "code"}


def test_an_unknown_criterion_is_refused_before_any_work(recipe, folder):
    with pytest.raises(InputError, match="there are: easier, nepenthe, residual, tlc"):
        score(recipe, Reporter(quiet=True), criterion="entropy", out=folder / "elsewhere")

    assert not (folder / "elsewhere").exists()


def test_a_recipe_of_text_is_scored_by_the_command_alike_every_time(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "text.toml").write_text(TEXT)

    outputs = [
        CliRunner().invoke(
            app, ["score", str(tmp_path / "text.toml"), "--json", "--out", str(tmp_path / out)]
        )
        for out in ("first", "second")
    ]

    assert [output.exit_code for output in outputs] == [0, 0], outputs[0].output
    document = json.loads(outputs[0].stdout)
    assert [(site["kind"], len(site["neurons"])) for site in document["sites"]] == [
        ("gelu", 16)
    ] * 2
    assert document["samples"] == 40
    assert outputs[0].stdout == outputs[1].stdout


def test_a_network_without_activations_is_one_clear_error(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "linear.toml").write_text(
        RECIPE.replace('"resnet18"', '"own:linear"').replace("options = { width = 4 }", "")
    )

    with pytest.raises(InputError, match="the model has no activation that shoal knows"):
        run(load_recipe(tmp_path / "linear.toml"), tmp_path, "easier")
