"""How every job begins: its goals and targets, its threads, its workspace, its data."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pipeline.datasets import cache_folder, load_dataset
from pipeline.feedback import Goal
from pipeline.jobs.job import Job
from pipeline.recipe import Recipe
from pipeline.reporting.progress import Reporter
from pipeline.workspace import Workspace
from profiles.budget import UNLIMITED
from profiles.target import Target, find_target
from runtimes.errors import NothingMeasured, RuntimeUnavailable


@dataclass(slots=True)
class Clock:
    """Wall seconds of every step, told when it starts."""

    reporter: Reporter
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        self.reporter.say(f"{step} ...")
        started = time.monotonic()
        yield
        self.seconds[step] = round(time.monotonic() - started, 3)


def goals_and_targets(recipe: Recipe) -> tuple[list[Goal], list[Target]]:
    """The targets with a budget, and all that the result is run and measured on."""
    asked = [(find_target(t.name, recipe.folder), t.budget) for t in recipe.targets]
    goals = [Goal(target, budget or UNLIMITED) for target, budget in asked]
    targets = [goal.target for goal in goals]
    names = {target.name for target in targets}
    targets += [find_target(name, recipe.folder) for name in recipe.verify if name not in names]
    return goals, targets


@contextmanager
def opened(
    recipe: Recipe, reporter: Reporter, *, out: Path, resume: bool
) -> Iterator[tuple[Job, Clock]]:
    """A job with its data, alone in its workspace; training takes the recipe's threads or all."""
    torch.set_num_threads(recipe.threads or len(os.sched_getaffinity(0)))
    step = Clock(reporter)
    with Workspace(out, resume=resume) as workspace:
        with step("data"):
            splits = load_dataset(
                recipe.data.dataset,
                cache=cache_folder(),
                reporter=reporter,
                folders=[recipe.folder],
                length=recipe.data.length,
            )
        try:
            yield Job(recipe, splits, workspace, reporter), step
        except (NothingMeasured, RuntimeUnavailable) as e:
            raise type(e)(
                f"{e}; what was finished is kept in {out}: `shoal compress --resume` goes on there"
            ) from e
