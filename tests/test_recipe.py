"""A recipe says what is wrong with it in one line that names the key, the value and the fix."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from pipeline.recipe import Recipe, built_in, load_recipe
from pipeline.recipe_tables.table import Table
from profiles.target import find_target
from runtimes.errors import InputError

LEAST = """
name = "mine"
[model]
spec = "vgg8"
[data]
dataset = "digits"
[[targets]]
name = "x86-cpu"
budget = "5ms"
"""

ACCURACY = """
[plan]
objective = "accuracy"
frontier = 3
accuracy_fall = 0.02
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_built_in_recipes_are_there():
    assert built_in() == [
        "digits",
        "digits-accuracy",
        "digits-frontier",
        "fashion-mnist",
        "minilm-reviews",
    ]


@pytest.mark.parametrize("name", built_in())
def test_built_in_recipe_loads_and_names_known_targets(name):
    recipe = load_recipe(name)

    assert recipe.name == name
    assert [find_target(n).name for n in (*(t.name for t in recipe.targets), *recipe.verify)]


def test_default_recipe_is_the_main_job():
    recipe = load_recipe()

    assert (recipe.model.spec, recipe.model.options) == ("resnet18", {"width": 16})
    assert recipe.data.dataset == "fashion-mnist"
    assert [(t.name, t.budget and t.budget.ratio) for t in recipe.targets] == [("x86-cpu", 0.6)]


def test_what_is_left_out_has_its_default(tmp_path):
    recipe = load_recipe(write(tmp_path, LEAST))

    assert recipe.plan.kernels == (3, 1)
    assert recipe.verify == ("x86-openvino",)
    assert recipe.workspace == Path("shoal-runs/mine")


def test_the_fastest_within_a_fall_of_accuracy_needs_no_budget(tmp_path):
    recipe = load_recipe(write(tmp_path, LEAST.replace('budget = "5ms"', "") + ACCURACY))

    assert recipe.targets[0].budget is None
    assert recipe.model_dump(mode="json")["targets"] == [{"name": "x86-cpu", "budget": None}]


def test_recipe_knows_the_folder_that_it_is_in(tmp_path):
    assert load_recipe(write(tmp_path, LEAST)).folder == tmp_path


def test_file_wins_over_the_built_in_of_its_name(tmp_path, monkeypatch):
    (tmp_path / "digits").write_text(LEAST)
    monkeypatch.chdir(tmp_path)

    assert load_recipe("digits").name == "mine"


def test_recipe_becomes_json_with_the_budget_as_it_was_written(tmp_path):
    recipe = load_recipe(write(tmp_path, LEAST))

    assert recipe.model_dump(mode="json")["targets"] == [{"name": "x86-cpu", "budget": "5ms"}]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sede = 1" + LEAST, "unknown key 'sede'; did you mean 'seed'"),
        (LEAST + "[plan]\nmax_kernle = 5", "'plan.max_kernle'; did you mean 'max_kernel'"),
        (LEAST + "[plan]\nzzz = 5", r"unknown key 'plan.zzz' \(known: max_macs, max_bytes"),
        (LEAST + "bugdet = '6ms'", "'targets.0.bugdet'; did you mean 'budget'"),
        (LEAST.replace("5ms", "5 parsecs"), "targets.0.budget = '5 parsecs': .* is not a time"),
        (LEAST.replace('"5ms"', "5"), "targets.0.budget = 5: budget '5' is not a time"),
        (LEAST.replace('budget = "5ms"', ""), 'x86-cpu has no budget: write budget = "0.6x"'),
        (LEAST + "[plan]\nfrontier = 1", "plan.frontier = 1: .* greater than or equal to 2"),
        (LEAST + "[plan]\nobjective = 'speed'", "plan.objective = 'speed': .*'budget' or 'acc"),
        (LEAST + "[plan]\nobjective = 'accuracy'", "plan.objective = .* write `frontier = 4`"),
        (
            LEAST + "[plan]\nobjective = 'accuracy'\nfrontier = 3",
            "plan.objective = .* write `accuracy_fall = 0.01`",
        ),
        (
            LEAST + "[[targets]]\nname = 'x86-openvino'\n" + ACCURACY,
            "x86-openvino has no budget: give every target one, or none",
        ),
        (LEAST.replace('spec = "vgg8"', ""), "key 'model.spec' is missing"),
        (LEAST[: LEAST.index("[[")], "key 'targets' is missing"),
        (LEAST.replace("mine", "a/b"), "name = 'a/b': write a name that can be a folder's"),
        (LEAST + LEAST[LEAST.index("[[") :], "x86-cpu is there twice"),
        (LEAST + "[train]\nepochs = '6'", "train.epochs = '6': .* valid integer"),
        (LEAST + "[train]\nepochs = 0", "train.epochs = 0: .* greater than or equal to 1"),
        (LEAST + "[plan]\nkernels = [2]", r"plan.kernels = \[2\]: write odd sizes"),
        (LEAST + "[finetune]\ndistillation = 2", "finetune.distillation = 2: .* less than"),
        ("targets = []" + LEAST[: LEAST.index("[[")], r"targets = \[\]: write at least one"),
        ("seed == 1", "is not TOML"),
    ],
)
def test_bad_recipe_is_one_line_that_names_the_key(tmp_path, text, says):
    path = write(tmp_path, text)

    with pytest.raises(InputError, match=says) as caught:
        load_recipe(path)

    assert str(caught.value).startswith(f"recipe '{path}'")
    assert "\n" not in str(caught.value)


def test_every_mistake_is_named_at_once(tmp_path):
    with pytest.raises(InputError, match=r"'model.spec' is missing; unknown key 'sede'"):
        load_recipe(write(tmp_path, "sede = 1" + LEAST.replace('spec = "vgg8"', "")))


def test_recipe_that_is_nowhere_names_the_built_in_ones():
    with pytest.raises(InputError, match=r"fashion-mnist, minilm-reviews \(did you mean digits"):
        load_recipe("digitz")


def test_folder_is_no_recipe(tmp_path):
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        load_recipe(tmp_path)


def test_bytes_that_are_no_text_are_no_recipe(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(InputError, match="is not TOML"):
        load_recipe(path)


def tables(table: type[BaseModel]):
    yield table
    for below in table.__subclasses__():
        yield from tables(below)


@pytest.mark.parametrize("table", list(tables(Table)), ids=lambda table: table.__name__)
def test_every_key_is_documented(table):
    undocumented = [name for name, field in table.model_fields.items() if not field.description]

    assert undocumented == []


def test_schema_of_the_recipe_can_be_published():
    schema = Recipe.model_json_schema()

    budget = schema["$defs"]["TargetTable"]["properties"]["budget"]
    assert [kind["type"] for kind in budget["anyOf"]] == ["string", "null"]
