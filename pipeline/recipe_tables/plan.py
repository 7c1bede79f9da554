"""The [plan] table of a recipe: how the network is made shallow, and what counts as well done."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from pipeline import criteria
from pipeline.recipe_tables.caps import CapKeys
from pipeline.recipe_tables.table import Table, known_criterion

EFFECT = "effect"

Objective = Literal["budget", "accuracy"]
Kernels = Annotated[tuple[int, ...], Field(strict=False)]


class PlanTable(CapKeys, Table):
    criterion: str = Field(
        default=EFFECT,
        description="what an option is predicted to cost: `effect` (KL of the network's output "
        "with that option alone, on calibration data) or the summed scores of the activations it "
        "removes, by a file of pipeline/criteria/",
    )
    kernels: Kernels = Field(
        default=(3, 1), description="kernel sizes that a segment may be refitted to"
    )
    max_kernel: int = Field(
        default=7, ge=1, description="the largest kernel that an exact merge may grow to"
    )
    max_rounds: int = Field(
        default=5, ge=1, description="how often to plan, build, measure and correct at most"
    )
    rounds: int = Field(default=12, ge=6, description="paired rounds of each measurement")
    accuracy_floor: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="least validation accuracy of the result, a fraction; below it the verdict "
        "is FAIL",
    )
    accuracy_fall: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="largest fall of validation accuracy below dense, such as 0.01; with "
        "`accuracy_floor` too the stricter one holds",
    )
    frontier: int | None = Field(
        default=None,
        ge=2,
        description="train several plans, not only the one that meets the budget: this many from "
        "the dense network, which is one of them, to the fastest. Each starts from the weights of "
        "its less compressed neighbour; the first that falls below the floor is the last",
    )
    objective: Objective = Field(
        default="budget",
        description="which candidate is the result. budget: of those that meet every budget, the "
        "most accurate; accuracy: of those that hold the accuracy floor, the fastest (a budget "
        "may be left out, and is met where it is given)",
    )

    _known = field_validator("criterion")(known_criterion([EFFECT, *criteria.names()]))

    @field_validator("objective")
    @classmethod
    def _has_a_choice(cls, objective: Objective, found: ValidationInfo) -> Objective:
        floors = (found.data.get("accuracy_floor"), found.data.get("accuracy_fall"))
        if objective == "accuracy" and found.data.get("frontier") is None:
            raise ValueError("it chooses among several plans: write `frontier = 4` beside it")
        if objective == "accuracy" and floors == (None, None):
            raise ValueError("it needs a floor: write `accuracy_fall = 0.01` beside it")
        return objective

    @field_validator("kernels")
    @classmethod
    def _odd(cls, kernels: tuple[int, ...]) -> tuple[int, ...]:
        if not kernels or any(kernel < 1 or kernel % 2 == 0 for kernel in kernels):
            raise ValueError("write odd sizes, such as [3, 1]")
        return kernels
