"""What a plan may be at most besides fast, and what it must keep or remove.

A quantity of the planned network is the largest of some rows, each of which adds up:

    quantity(plan) = max over rows r of  dense_r + sum_{o in plan} difference_{r,o}

MACs, weights, operators and removed activations have one row; the memory peak has one for every
step of the network. Every cap is a linear constraint of the solver, whatever the target is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Name = Literal["macs", "bytes", "peak_bytes", "operators", "removed"]


@dataclass(frozen=True, slots=True)
class Row:
    """`differences` by option id; an option that is not there changes nothing."""

    dense: float
    differences: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number of a network, for one sample; `unit` is for messages."""

    name: Name
    unit: str
    rows: tuple[Row, ...]

    def of(self, chosen: Collection[str]) -> float:
        """What the network with these options has of it."""
        return max(
            (row.dense + sum(row.differences.get(id_, 0.0) for id_ in chosen) for row in self.rows),
            default=0.0,
        )

    def binding(self, most: float) -> Iterable[Row]:
        """The rows that some plan could bring over `most`; the others constrain nothing."""
        for row in self.rows:
            if row.dense + sum(max(d, 0.0) for d in row.differences.values()) > most:
                yield row


@dataclass(frozen=True, slots=True)
class Cap:
    """A quantity and the most that it may be; `text` as the user wrote it."""

    quantity: Quantity
    most: float
    text: str

    def __str__(self) -> str:
        return f"max_{self.quantity.name} = {self.text}"

    def holds(self, chosen: Collection[str]) -> bool:
        return self.quantity.of(chosen) <= self.most


@dataclass(frozen=True, slots=True)
class Rules:
    """What every plan has to respect on all targets; `removed` are sites that must go."""

    caps: tuple[Cap, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (*map(str, self.caps), *(f"remove = {site}" for site in self.removed))


FREE = Rules()
