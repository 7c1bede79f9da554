"""The records of a map: a segment, what is added to it, and the ways to replace a part of it."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.geometry import Geometry
from pipeline.operators import Operator


@dataclass(frozen=True, slots=True)
class Shortcut:
    """What is added to a segment's output: its own input, or a 1x1 projection of it."""

    kind: str
    add: str
    operator: Operator | None
    output: str


@dataclass(frozen=True, slots=True)
class Option:
    """One operator in place of `segment.operators[first : last + 1]`."""

    id: str
    segment: str
    kind: str
    first: int
    last: int
    absorbs_shortcut: bool
    sites: tuple[str, ...]
    geometry: Geometry
    pooled: bool
    border: str
    macs: int
    macs_before: int


@dataclass(frozen=True, slots=True)
class Segment:
    """`gaps[i]` is the site between operators i and i + 1, or None where there is none."""

    id: str
    input: str
    output: str
    nodes: tuple[str, ...]
    sites: tuple[str, ...]
    operators: tuple[Operator, ...]
    gaps: tuple[str | None, ...]
    glue: tuple[tuple[str, ...], ...]
    shortcut: Shortcut | None
    macs: int
    options: tuple[Option, ...] = ()
