"""A user's own network and images, and what a user may get wrong."""

from __future__ import annotations

import json
import sys

import pytest
from tiny_job import RECIPE, VERDICT_CODES, artifact_of, shoal

from pipeline.__main__ import main

OWN = '''
import torch
from torch import nn


def network(num_classes):
    """Convolutions that merge exactly: a 3x3 and two 1x1, twice, functional activations."""
    return Own(num_classes)


class Own(nn.Module):
    def __init__(self, classes):
        super().__init__()
        layers = [(1, 24, 3), (24, 24, 1), (24, 24, 1), (24, 24, 3), (24, 24, 1), (24, 24, 1)]
        self.layers = nn.ModuleList(nn.Conv2d(i, o, k, padding=k // 2) for i, o, k in layers)
        self.head = nn.Linear(24, classes)

    def forward(self, x):
        for index, layer in enumerate(self.layers):
            x = torch.relu(layer(x))
            if index == 2:
                x = nn.functional.max_pool2d(x, 2)
        return self.head(x.mean((2, 3)))


def images():
    """A bright or a dark half: four splits of different images."""
    rng = torch.Generator().manual_seed(0)
    splits = []
    for count in (600, 100, 100, 100):
        pictures = torch.randn(count, 1, 16, 16, generator=rng)
        labels = torch.randint(0, 3, (count,), generator=rng)
        pictures[labels == 1, :, :8] += 0.7
        pictures[labels == 2, :, 8:] += 0.7
        splits.append((pictures, labels))
    return splits
'''
OWN_RECIPE = """
name = "own"
threads = 1
verify = []

[model]
spec = "own:network"

[data]
dataset = "own:images"

[train]
epochs = 4
batch_size = 50
learning_rate = 0.02

[plan]
kernels = [9]
rounds = 6
max_rounds = 2

[[targets]]
name = "x86-openvino"
budget = "0.95x"

[finetune]
epochs = 2
batch_size = 50
learning_rate = 0.01
"""


def test_a_network_and_data_of_the_users_own_with_nothing_but_exact_merges(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "own.toml").write_text(OWN_RECIPE)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    done = shoal("compress", tmp_path / "own.toml", "--json", cwd=elsewhere)

    document = json.loads(done.stdout) if done.stdout else {}
    assert document, done.stderr
    candidate = document["candidates"][0]
    assert done.returncode == VERDICT_CODES[document["verdict"]], done.stderr
    assert {part["choice"] for part in candidate["plan"]["segments"]} <= {"merge", "keep"}
    assert candidate["removed_sites"]
    assert candidate["depth"] < document["dense"]["depth"]
    assert candidate["certificate"]["passed"]
    assert [p["target"] for p in candidate["parity"] if p["passed"]] == ["x86-openvino"]
    assert artifact_of(document).is_relative_to(elsewhere.resolve())


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """`refused("mine.toml")` runs `shoal compress` in a folder and gives its exit code, stderr."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["shoal", "compress", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert said.out == ""
        return int(ended.value.code or 0), said.err

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.toml"], "missing.toml"),
        (["--recipe", "fashion-mnits"], "did you mean fashion-mnist"),
        (["tiny.toml", "--out", "/proc/nowhere"], "cannot be written"),
        (["tiny.toml", "--recepie", "x"], "No such option"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, refused, arguments, message):
    (tmp_path / "tiny.toml").write_text(RECIPE)

    code, said = refused(*arguments)

    assert code == 2
    assert message in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"0.9x"', '"5 parsecs"', "is not a time"),
        ('"x86-cpu"', '"x68-cpu"', "did you mean 'x86-cpu'"),
        ("[plan]", "[plan]\nmax_kernle = 5", "did you mean 'max_kernel'"),
        ("[plan]", '[plan]\ncriterion = "easyer"', "did you mean 'easier'"),
        ('"resnet18"', '"resnet81"', "resnet18"),
        ("rounds = 6", "rounds = 2", "rounds"),
    ],
)
def test_a_mistake_in_the_recipe_is_one_line_before_any_work(tmp_path, refused, old, new, message):
    (tmp_path / "wrong.toml").write_text(RECIPE.replace(old, new, 1))

    code, said = refused("wrong.toml", "--out", "work")

    assert code == 2
    assert message in said
    assert len(said.strip().splitlines()) <= 4
    assert not list(tmp_path.glob("work/stages/*"))
