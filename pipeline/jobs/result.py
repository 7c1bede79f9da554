"""Everything that a finished job knows, before it is put into words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.criteria import Scores
from pipeline.feedback import Attempt, Goal, Measured
from pipeline.jobs.candidate import Collapsed, Student
from pipeline.jobs.job import Job
from pipeline.jobs.selection import Planned
from pipeline.mapping import Map, Option
from pipeline.planning import LatencyTable
from pipeline.verify import Parity


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One plan carried out, trained, collapsed, run and measured."""

    planned: Planned
    options: tuple[Option, ...]
    student: Student
    accuracy: float
    collapsed: Collapsed
    parity: tuple[Parity, ...]
    measured: tuple[Measured, ...]
    warm_start: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Everything that a finished job knows; `untrained` names the plans that it stopped before."""

    job: Job
    goals: tuple[Goal, ...]
    map_: Map
    scores: tuple[Scores, ...]
    tables: tuple[LatencyTable, ...]
    exact: Attempt
    frontier: tuple[Attempt, ...]
    dense_path: Path
    dense_accuracy: float
    dense_validation: float
    floor: float | None
    candidates: tuple[Candidate, ...]
    untrained: tuple[str, ...]
    seconds: Mapping[str, float]
