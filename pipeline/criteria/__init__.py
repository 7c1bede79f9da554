"""Which sites matter least: one file per criterion, its name is the criterion's name.

A score is an importance: the site with the lowest is removed first.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from runtimes.errors import InputError

if TYPE_CHECKING:  # a recipe is checked against names() without waiting for torch
    from pipeline.activations import Statistics


@dataclass(frozen=True, slots=True)
class SiteScore:
    """The importance of one site and of each of its neurons, shape (neurons,)."""

    id: str
    score: float
    neurons: np.ndarray


@dataclass(frozen=True, slots=True)
class Scores:
    """What one criterion says of every site, and on how many samples it rests."""

    criterion: str
    samples: int
    sites: tuple[SiteScore, ...]


class Criterion(Protocol):
    """Ranks activation sites by how much the network would lose without them."""

    def score(self, statistics: Statistics) -> Scores: ...


def names() -> list[str]:
    """The known criteria, by file name."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem != "__init__")


def get(name: str) -> type[Criterion]:
    """The criterion of that name; InputError lists the known ones."""
    if name not in names():
        near = get_close_matches(name, names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"no criterion named {name!r}; there are: {', '.join(names())}{hint}")
    return import_module(f"pipeline.criteria.{name}").CRITERION
