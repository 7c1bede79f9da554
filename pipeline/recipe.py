"""What the user asks for: one TOML file, every key documented, an unknown one refused.

    shoal compress my.toml          the user's own
    shoal compress --recipe digits  a built-in one (pipeline/recipes/)

`shoal schema recipe` prints all of it as a JSON schema. A mistake is one line that names the key.
"""

from __future__ import annotations

import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from pipeline import criteria
from pipeline.recipe_tables.plan import PlanTable
from pipeline.recipe_tables.precision import Precisions
from pipeline.recipe_tables.table import Table, known_criterion
from profiles.budget import Budget, parse_budget
from runtimes.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUILT_IN_FOLDER = Path(__file__).parent / "recipes"
DEFAULT = "fashion-mnist"


def _budget(value: Any) -> Budget:
    return value if isinstance(value, Budget) else parse_budget(str(value))


Limit = Annotated[
    Budget,
    BeforeValidator(_budget),
    PlainSerializer(lambda budget: budget.text),
    WithJsonSchema({"type": "string", "examples": ["5ms", "350us", "0.6x"]}),
]
Names = Annotated[tuple[str, ...], Field(strict=False)]


class ModelTable(Table):
    spec: str = Field(
        description="resnet18, vgg8, mobilenetv2-half, torchvision:NAME, for text minilm or "
        "transformers:NAME (bert, roberta; options are its configuration's), or "
        "package.module:function of your own that returns a torch.nn.Module"
    )
    options: dict[str, Any] = Field(
        default={}, description="further arguments of the model, such as width"
    )
    checkpoint: Annotated[Path, Field(strict=False)] | None = Field(
        default=None,
        description="trained weights of your own (a state dict, loaded with weights_only), "
        "relative to the recipe; without it the network is trained",
    )


class DataTable(Table):
    dataset: str = Field(
        description="fashion-mnist, digits, movie-reviews, or package.module:function of your own "
        "that returns four (images, labels) pairs: train, calibration, validation, test; instead "
        "of images texts, (n, 2, length) whole numbers: token ids and attention mask"
    )
    length: int = Field(
        default=64,
        ge=2,
        description="of movie-reviews: the tokens that a snippet is cut to, and the length at "
        "which latencies of its networks are measured",
    )


class TrainTable(Table):
    epochs: int = Field(default=6, ge=1, description="passes over the training images")
    batch_size: int = Field(default=128, ge=1, description="images in a step")
    learning_rate: float = Field(
        default=0.1, gt=0, description="the peak of the one-cycle schedule"
    )
    weight_decay: float = Field(default=5e-4, ge=0, description="of SGD or AdamW")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of SGD (Nesterov's)")
    optimizer: Literal["sgd", "adamw"] = Field(default="sgd", description="that steps")
    flip: bool = Field(default=False, description="mirror half of the images left to right")
    bf16: bool = Field(default=False, description="compute in bfloat16 where that is safe")


class FinetuneTable(TrainTable):
    epochs: int = Field(default=4, ge=1, description="passes over the training images")
    learning_rate: float = Field(
        default=0.02, gt=0, description="the peak of the one-cycle schedule"
    )
    distillation: float = Field(
        default=0.5, ge=0, le=1, description="weight of the dense network's outputs in the loss"
    )
    temperature: float = Field(default=2.0, gt=0, description="that softens those outputs")


class CalibrationTable(Table):
    images: int | None = Field(
        default=None, ge=1, description="how many of the calibration split, all if not given"
    )


class ProcedureTable(Table):
    kind: Literal["planned", "iterative"] = Field(
        default="planned",
        description="planned: by measured latency, trained once; iterative: as published, score, "
        "remove, retrain by [train], until validation accuracy falls too far",
    )
    criterion: str = Field(default="easier", description="that scores and removes")
    options: dict[str, Any] = Field(
        default={}, description="the criterion's own settings, such as variant or zeta"
    )
    tolerance: float = Field(
        default=0.01, ge=0, le=1, description="largest fall of validation accuracy below dense"
    )
    per_round: int = Field(default=1, ge=1, description="activations removed between trainings")
    rounds: int = Field(default=100, ge=1, description="trainings at most; 1 is one-shot")
    control: bool = Field(
        default=True, description="train the dense network for the same epochs beside it"
    )

    _known = field_validator("criterion")(known_criterion(criteria.names()))


class TargetTable(Table):
    name: str = Field(description="a known target; `shoal targets` lists them")
    budget: Limit | None = Field(
        default=None,
        description="upper limit of the median latency: 5ms, 350us or 0.6x; may be left out with "
        'objective = "accuracy" alone',
    )


class Recipe(Table):
    name: str = Field(description="names the job, and its folder if `out` is not given")
    seed: int = Field(default=0, ge=0, description="of every random choice in the job")
    threads: int | None = Field(
        default=None,
        ge=1,
        description="of training, all cores if not given; beside other work 1 is often faster. "
        "The threads of a measurement are the target's",
    )
    out: str | None = Field(
        default=None, description="the workspace; shoal-runs/<name> if not given"
    )
    model: ModelTable = Field(description="the dense network")
    data: DataTable = Field(description="the images that it is trained and judged on")
    train: TrainTable = Field(default=TrainTable(), description="how the dense network is trained")
    calibration: CalibrationTable = Field(
        default=CalibrationTable(), description="the images behind scores and stand-ins"
    )
    plan: PlanTable = Field(default=PlanTable(), description="how the network is made shallow")
    procedure: ProcedureTable = Field(
        default=ProcedureTable(), description="planned by latency, or iterated as published"
    )
    finetune: FinetuneTable = Field(
        default=FinetuneTable(), description="how the shallow network is repaired"
    )
    targets: Annotated[tuple[TargetTable, ...], Field(strict=False)] = Field(
        description="the devices whose budgets must be met, one [[targets]] for each"
    )
    precisions: Precisions = ("fp32",)
    verify: Names = Field(
        default=("x86-openvino",),
        description="further targets that the result is run and measured on",
    )
    _folder: Path = PrivateAttr(default_factory=Path.cwd)

    @field_validator("name")
    @classmethod
    def _one_folder(cls, name: str) -> str:
        if not name or "/" in name or name.startswith("."):
            raise ValueError("write a name that can be a folder's, such as my-network")
        return name

    @field_validator("targets")
    @classmethod
    def _once(
        cls, targets: tuple[TargetTable, ...], found: ValidationInfo
    ) -> tuple[TargetTable, ...]:
        names = [target.name for target in targets]
        if not names:
            raise ValueError("write at least one [[targets]] with a name and a budget")
        plan, without = found.data.get("plan"), [t.name for t in targets if t.budget is None]
        if without and plan is not None and plan.objective != "accuracy":
            raise ValueError(
                f'{without[0]} has no budget: write budget = "0.6x", or plan.objective = "accuracy"'
            )
        if without and len(without) < len(targets):
            raise ValueError(f"{without[0]} has no budget: give every target one, or none")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name} is there twice: one device has one budget")
        return targets

    @property
    def folder(self) -> Path:
        """Where the recipe is: its checkpoint and its own modules are searched there."""
        return self._folder

    @property
    def workspace(self) -> Path:
        return Path(self.out) if self.out else Path("shoal-runs") / self.name


def built_in() -> list[str]:
    return sorted(path.stem for path in BUILT_IN_FOLDER.glob("*.toml"))


def load_recipe(path_or_name: Path | str = DEFAULT) -> Recipe:
    """The recipe in the file, or the built-in one of that name."""
    path = Path(path_or_name)
    if str(path_or_name) in built_in() and not path.is_file():
        path = BUILT_IN_FOLDER / f"{path_or_name}.toml"
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        close = get_close_matches(str(path_or_name), built_in(), n=1)
        raise InputError(
            f"there is no recipe {str(path_or_name)!r}: no such file, and the built-in ones are "
            f"{', '.join(built_in())}{f' (did you mean {close[0]}?)' if close else ''}"
        ) from e
    except OSError as e:
        raise InputError(f"recipe {str(path)!r} cannot be read: {e.strerror}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise InputError(f"recipe {str(path)!r} is not TOML: {e}") from e
    try:
        recipe = Recipe.model_validate(settings)
    except ValidationError as e:
        complaints = "; ".join(_complaint(error) for error in e.errors())
        raise InputError(f"recipe {str(path)!r}: {complaints}") from e
    recipe._folder = path.resolve().parent
    return recipe


def _complaint(error: Any) -> str:
    *parents, key = error["loc"]
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _keys(parents)
        close = get_close_matches(str(key), known, n=1)
        nearest = f"; did you mean {close[0]!r}?" if close else ""
        return f"unknown key {where!r}{nearest} (known: {', '.join(known)})"
    if error["type"] == "missing":
        return f"key {where!r} is missing"
    message = error["msg"].removeprefix("Value error, ")
    shown = repr(error["input"])
    return f"{where} = {shown if len(shown) < 80 else shown[:77] + '...'}: {message}"


def _keys(parents: list[str | int]) -> list[str]:
    tables = {"model": ModelTable, "data": DataTable, "train": TrainTable}
    tables |= {"calibration": CalibrationTable, "plan": PlanTable, "finetune": FinetuneTable}
    tables |= {"targets": TargetTable, "procedure": ProcedureTable}
    return list((tables[str(parents[0])] if parents else Recipe).model_fields)
