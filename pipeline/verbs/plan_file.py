"""What `shoal plan` reads besides the network: a plan to measure again, scores, targets, budgets.

plan.json     a document of `shoal plan`, or {"options": ["layer1.0/merge-5x5@0-1+shortcut", ...]}
scores.json   the document of `shoal score`, or {"sites": [{"id": ..., "score": ...}, ...]}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import onnx_ir as ir
from pydantic import BaseModel, Field, FiniteFloat, ValidationError, field_validator

from pipeline.feedback import Goal
from pipeline.graphs.building import check_disjoint
from pipeline.mapping import Option
from profiles.budget import UNLIMITED, parse_budget
from profiles.target import Target, find_target
from runtimes.base import Precision
from runtimes.errors import InputError

GIVES_UP = 1e-3  # of one site, for all of an option's parameters
M = TypeVar("M", bound=BaseModel)


class SiteScore(BaseModel):
    id: str
    score: FiniteFloat


class ScoreFile(BaseModel):
    sites: list[SiteScore]


class Options(BaseModel):
    """A row of a frontier says its precision too."""

    options: list[str]
    precision: Precision = "fp32"

    @field_validator("options", mode="before")
    @classmethod
    def ids(cls, given: object) -> object:
        """Options may be written as ids, or as records that have one."""
        if not isinstance(given, list):
            return given
        return [one["id"] if isinstance(one, dict) and "id" in one else one for one in given]


class FiledTarget(BaseModel):
    target: str
    budget: str | None


class Median(BaseModel):
    median_ms: FiniteFloat = Field(gt=0)


class PlanFile(BaseModel):
    """Of a document of `shoal plan`, what a second measurement of its plan needs."""

    plan: Options
    model: str | None = None
    model_sha256: str | None = None
    max_kernel: int | None = None
    precision: Precision = "fp32"
    targets: list[FiledTarget] = []
    shapes: dict[str, tuple[int, ...]] = {}
    predicted_ms: dict[str, FiniteFloat] = {}
    dense_ms: dict[str, Median] = {}


def read_plan(path: Path) -> PlanFile:
    text = text_of(path, "--from")
    try:
        bare = Options.model_validate_json(text)
    except ValidationError:
        return _read(PlanFile, text, path, 'a plan: a document of `shoal plan`, or {"options": []}')
    return PlanFile(plan=bare, precision=bare.precision)


def options_of(filed: PlanFile, known: Sequence[Option], path: Path) -> tuple[Option, ...]:
    """The options that the file names, in the file's order."""
    by_id = {option.id: option for option in known}
    for name in filed.plan.options:
        if name not in by_id:
            raise InputError(
                f"{path} names the option {name!r}, which this network does not have; "
                "`shoal map` lists those that it has: give the network that the plan was made for"
            )
    chosen = tuple(by_id[name] for name in filed.plan.options)
    try:
        check_disjoint(chosen)
    except ValueError as e:
        raise InputError(f"{path} is no plan: {e}; keep one of them") from e
    return chosen


def losses_of(options: Sequence[Option], scores: Path | None) -> dict[str, float]:
    """By option: how many sites it removes, or the sum of their scores, and what it gives up.

    Without data nothing tells a merge from a drop of the same sites. The loss is then

        sum over removed sites of their scores (of 1 each) + GIVES_UP * unit * (1 - kept)

    where `kept` is the share of the merged operator's parameters that the option has (1 for the
    merge, (k / K)^2 for a smaller kernel, 0 for nothing) and the unit is one site, or the mean of
    the scores: far below one site, it orders what would tie, towards keeping more of the function.
    An operator that is dropped without any site counts as one.
    """
    if scores is None:
        return {
            o.id: max(len(o.sites), o.kind == "drop") + GIVES_UP * (1 - o.kept) for o in options
        }
    wanted = "scores: the JSON of `shoal score --json`"
    given = _read(ScoreFile, text_of(scores, "--scores"), scores, wanted)
    score = {site.id: site.score for site in given.sites}
    if len(score) < len(given.sites):
        twice = next(id_ for id_, times in Counter(s.id for s in given.sites).items() if times > 1)
        raise InputError(f"{scores} has two scores of {twice}: keep one of them")
    missing = sorted({site for option in options for site in option.sites} - score.keys())
    if missing:
        raise InputError(
            f"{scores} has no score of {', '.join(missing[:3])}"
            f"{f' and {len(missing) - 3} more' if len(missing) > 3 else ''}, which can be removed; "
            f"it has: {', '.join(list(score)[:5]) or 'none'}: score the network that is planned"
        )
    removable = sorted({site for option in options for site in option.sites})
    unit = sum(abs(score[site]) for site in removable) / max(len(removable), 1) or 1.0
    return {
        o.id: sum(score[site] for site in o.sites)
        + unit * (GIVES_UP * (1 - o.kept) + (o.kind == "drop" and not o.sites))
        for o in options
    }


def goals_of(
    targets: Sequence[str],
    budgets: Sequence[str],
    filed: PlanFile | None,
    *,
    unlimited: bool = False,
) -> list[Goal]:
    """One budget for each target, in order; those of the plan file where none are given.

    `unlimited`: no budgets at all are as good.
    """
    if filed is not None and not targets and not budgets:
        targets = [one.target for one in filed.targets]
        budgets = [one.budget for one in filed.targets if one.budget is not None]
        unlimited = not budgets
    without = unlimited and not budgets
    if not targets or not (without or len(targets) == len(budgets)):
        raise InputError(
            f"{len(targets)} targets and {len(budgets)} budgets: give every --target its --budget, "
            "in the same order; --frontier needs a --target, but no --budget"
        )
    repeated = sorted({name for name in targets if list(targets).count(name) > 1})
    if repeated:
        raise InputError(f"target {repeated[0]!r} is given twice; give it once, with one budget")
    limits = [UNLIMITED] * len(targets) if without else [parse_budget(text) for text in budgets]
    given = zip(targets, limits, strict=True)
    return [Goal(find_target(target), limit) for target, limit in given]


def sizes_of(
    shapes: Mapping[str, tuple[int, ...]], network: ir.Model, targets: Sequence[Target]
) -> dict[str, tuple[int, ...]]:
    """Of one sample, by input: shapes have the batch in front, which is the target's."""
    known = [value.name or "" for value in network.graph.inputs]
    for name, (batch, *_) in shapes.items():
        if name not in known:
            raise InputError(f"--shape: no input {name!r}; there are: {', '.join(known)}")
        for target in targets:
            if batch != target.batch:
                raise InputError(
                    f"--shape gives {name!r} a batch of {batch}, and {target.name} is measured "
                    f"with {target.batch}: give it {target.batch} in front"
                )
    return {name: shape[1:] for name, shape in shapes.items()}


def predicted_ratios(
    filed: PlanFile, goals: Sequence[Goal], precision: Precision
) -> Mapping[str, float]:
    """By target asked for: the predicted latency relative to dense; none of another precision."""
    asked = {goal.target.name for goal in goals} if filed.precision == precision else ()
    return {
        target: predicted / filed.dense_ms[target].median_ms
        for target, predicted in filed.predicted_ms.items()
        if target in filed.dense_ms and target in asked
    }


def text_of(path: Path, flag: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as e:
        raise InputError(f"{path} cannot be read ({e.strerror}); {flag} takes a JSON file") from e
    except UnicodeDecodeError as e:
        raise InputError(f"{path} is not text; {flag} takes a JSON file") from e


def _read(kind: type[M], text: str, path: Path, what: str) -> M:
    try:
        return kind.model_validate_json(text)
    except ValidationError as e:
        first = e.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole file"
        raise InputError(f"{path} is not {what}; {place}: {first['msg']}") from e
