"""Panels and what is on them: scales with round ticks, marks whose labels do not cover each other.

Coordinates are those of a panel 400 wide, which is about what a telephone shows, so that text never
shrinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, log10
from typing import Literal

WIDTH = 400
LABEL_GAP = 14
LABEL_OFFSET = 10
CHARACTER = 7.0  # the width of one, generously

Role = Literal["dense", "candidate", "chosen", "predicted", "measured", "removed", "kept"]


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high` on pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


@dataclass(frozen=True, slots=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A point with the ends of its intervals; `title` is what hovering shows."""

    role: Role
    title: str
    x: float
    y: float
    x_ends: tuple[float, float] | None = None
    y_ends: tuple[float, float] | None = None
    label: str = ""
    label_y: float = 0.0
    label_left: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    y: float
    label: str
    title: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture; `limit` is where the budget's line stands, `bars` draws marks from zero.

    `front` joins the points that no other one beats, in steps.
    """

    title: str
    describes: str
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x_label: str
    x_ticks: tuple[Tick, ...]
    y_label: str = ""
    y_ticks: tuple[Tick, ...] = ()
    marks: tuple[Mark, ...] = ()
    rows: tuple[Row, ...] = ()
    limit: float | None = None
    limit_label: str = ""
    front: tuple[tuple[float, float], ...] = ()
    bars: bool = False
    zero: float = 0.0
    width: float = WIDTH


def ticks(scale: Scale, scale_by: float = 1.0, wanted: int = 5) -> tuple[Tick, ...]:
    """About `wanted` ticks at 1, 2 or 5 times a power of ten."""
    low, high = scale.low * scale_by, scale.high * scale_by
    rough = (high - low) / wanted
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    decimals = max(0, -floor(log10(step)))
    return tuple(
        Tick(scale.at(index * step / scale_by), f"{index * step:.{decimals}f}")
        for index in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)
    )


def apart(marks: Sequence[Mark]) -> list[Mark]:
    """Labels beside their points, each at the first place where it covers no other."""
    placed: list[Mark] = []
    for mark in sorted(marks, key=lambda mark: (mark.y, mark.x)):
        places = [
            replace(mark, label_y=mark.y + down, label_left=left)
            for down in (-7, 16, -7 - LABEL_GAP, 16 + LABEL_GAP, 16 + 2 * LABEL_GAP)
            for left in (mark.label_left, not mark.label_left)
        ]
        inside = [p for p in places if label_span(p)[0] >= 0 and label_span(p)[1] <= WIDTH]
        free = [p for p in inside if not any(covers(p, other) for other in placed)]
        clear = [p for p in free if not any(_crosses(p, other) for other in marks)]
        placed.append((clear or free or inside or places)[0])
    return placed


def covers(one: Mark, other: Mark) -> bool:
    (start, end), (others_start, others_end) = label_span(one), label_span(other)
    return (
        abs(one.label_y - other.label_y) < LABEL_GAP and start < others_end and others_start < end
    )


def _crosses(one: Mark, other: Mark) -> bool:
    """Does the label of `one` run over the upright whisker of `other`?"""
    if other.y_ends is None or (one.x, one.y) == (other.x, other.y):
        return False
    (start, end), (low, high) = label_span(one), sorted(other.y_ends)
    return start < other.x < end and low - LABEL_GAP < one.label_y < high + LABEL_GAP


def label_span(mark: Mark) -> tuple[float, float]:
    wide = LABEL_OFFSET + CHARACTER * len(mark.label)
    return (mark.x - wide, mark.x) if mark.label_left else (mark.x, mark.x + wide)
