"""Everything that a finished job knows, before it is put into words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.candidate import Collapsed, Student
from pipeline.criteria import Scores
from pipeline.feedback import Attempt, Goal, Measured, Outcome
from pipeline.job import Job
from pipeline.mapping import Map, Option
from pipeline.planning import LatencyTable
from pipeline.verify import Parity


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Everything that a finished job knows."""

    job: Job
    goals: tuple[Goal, ...]
    map_: Map
    options: tuple[Option, ...]
    scores: tuple[Scores, ...]
    tables: tuple[LatencyTable, ...]
    exact: Attempt
    outcome: Outcome
    dense_path: Path
    shallow_path: Path
    dense_accuracy: float
    dense_validation: float
    student: Student
    student_accuracy: float
    student_validation: float
    collapsed: Collapsed
    parity: tuple[Parity, ...]
    measured: tuple[Measured, ...]
    seconds: Mapping[str, float]

    @property
    def chosen(self) -> list[Option]:
        """The options of the plan that was carried out, in graph order."""
        ids = self.outcome.chosen.plan.options
        return [option for option in self.options if option.id in ids]

    def operators(self, option: Option) -> int:
        """How many operators with weights an option replaces, a projection shortcut included."""
        shortcut = self.map_.segment(option.segment).shortcut
        projection = option.absorbs_shortcut and shortcut is not None and bool(shortcut.operator)
        return option.last - option.first + 1 + projection
