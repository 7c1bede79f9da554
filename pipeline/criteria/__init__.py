"""Which sites matter least, and how to take them out: one file per criterion, named like it.

A score is an importance: the site with the lowest is removed first. `reduce` is the criterion's own
edit of the network, before any training repairs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from runtimes.errors import InputError

if TYPE_CHECKING:  # a recipe is checked against names() without waiting for torch
    from torch import fx

    from pipeline.activations import Statistics
    from pipeline.datasets import Split


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a criterion may look at: the traced model, its statistics, the data they came from."""

    model: fx.GraphModule
    statistics: Statistics
    calibration: Split


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

    def ranking(self) -> list[SiteScore]:
        """The sites from the least important on; of equal ones the first in the graph."""
        return sorted(self.sites, key=lambda site: site.score)


class Criterion(Protocol):
    """Ranks activation sites by how much the network would lose without them, and removes them."""

    def score(self, evidence: Evidence) -> Scores: ...

    def reduce(self, evidence: Evidence, count: int) -> fx.GraphModule:
        """A copy of the model after one round of the method, for `count` sites.

        The criterion's rule may remove more at once (all sites at zero entropy), or, where it
        prunes weights until a site falls idle, fewer.
        """
        ...


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


def make(name: str, options: Mapping[str, Any] | None = None) -> Criterion:
    """The criterion of that name with its fields set, such as variant = "code"."""
    kind: Any = get(name)
    known = [field.name for field in fields(kind)]
    for option in options or {}:
        if option not in known:
            raise InputError(
                f"criterion {name!r} has no option {option!r}; it has: {', '.join(known) or 'none'}"
            )
    return kind(**(options or {}))


def one_of(value: str, variants: tuple[str, ...], criterion: str) -> None:
    """Refuse a setting that a criterion does not have."""
    if value not in variants:
        raise InputError(
            f"criterion {criterion!r} knows no {value!r}; there are: {', '.join(variants)}"
        )
