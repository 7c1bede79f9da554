"""What a device tells when it is looked at, whichever kind of device it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Value = str | int | None


@dataclass(frozen=True, slots=True)
class Told:
    """Values by name; one that is None has its reason in `missing`."""

    facts: Mapping[str, Value]
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the device."""

    told: Told  # clocks, temperatures, power, now
    counts: Mapping[str, int] = field(default_factory=dict)  # events since it was switched on
    throttled: tuple[str, ...] = ()  # why its clocks are held down now
    clock: int | None = None  # of its compute units, for the share of the highest seen
