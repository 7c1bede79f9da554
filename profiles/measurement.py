"""The record of a measurement: raw nanoseconds per block, never a lone mean.

The unit of evidence is the round (one process). A block's value is its median, a round's the
median of its blocks, the measurement's the median of its rounds.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from profiles.environment import Fingerprint
from profiles.statistics import Estimate, median_interval
from runtimes.base import Artifact
from runtimes.errors import InputError, NothingMeasured

SCHEMA = "shoal.measurement/1"


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive runs of one artifact, next to its partner's of the same pair."""

    round: int
    pair: int
    position: int  # 0: ran first of its pair, 1: second
    start_ns: int
    samples_ns: tuple[int, ...]
    disturbances: tuple[str, ...] = ()
    surroundings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def median_ns(self) -> float:
        return median(self.samples_ns)


@dataclass(frozen=True, slots=True)
class Round:
    """What one process said of the artifact before its blocks."""

    load_ms: float
    first_inference_ms: float
    peak_bytes: int | None
    warm_up_runs: int
    warm_up_s: float
    stable: bool
    cores: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Measurement:
    """How long one artifact takes on one target."""

    artifact: Artifact
    target: str
    metric: str
    identity: Mapping[str, str]
    fingerprint: Fingerprint
    rounds: tuple[Round, ...]
    blocks: tuple[Block, ...]
    discarded: tuple[Block, ...] = ()  # disturbed and repeated
    timer_overhead_ns: int = 0
    schema: str = SCHEMA

    def by_round(self) -> dict[int, list[Block]]:
        grouped: dict[int, list[Block]] = {}
        for block in self.blocks:
            grouped.setdefault(block.round, []).append(block)
        return grouped

    def round_medians_ms(self) -> list[float]:
        return [
            median(block.median_ns for block in blocks) / 1e6 for blocks in self.by_round().values()
        ]

    def estimate_ms(self, confidence: float = 0.95) -> Estimate:
        return median_interval(self.round_medians_ms(), confidence)

    @property
    def median_ms(self) -> float:
        return median(self.round_medians_ms())

    @property
    def interval_ms(self) -> tuple[float, float]:
        estimate = self.estimate_ms()
        return estimate.lo, estimate.hi

    def samples_ns(self) -> list[int]:
        return [sample for block in self.blocks for sample in block.samples_ns]

    def disturbed_share(self) -> float:
        """Of all blocks that ran, repeated ones included."""
        disturbed = len(self.discarded) + sum(bool(block.disturbances) for block in self.blocks)
        return disturbed / (len(self.blocks) + len(self.discarded))

    def differences(self, other: Measurement, across: Collection[str] = ()) -> tuple[str, ...]:
        """Why two measurements never compare; empty when they do."""
        mine = {"target": self.target, "metric": self.metric, **self.identity}
        yours = {"target": other.target, "metric": other.metric, **other.identity}
        return tuple(
            f"{name}: {mine.get(name)} and {yours.get(name)}"
            for name in sorted({*mine, *yours})
            if mine.get(name) != yours.get(name) and name not in across
        )


def write_measurement(measurement: Measurement, path: Path) -> None:
    """All of it or nothing: a full disk leaves no file behind."""
    text = json.dumps(asdict(measurement), default=str)
    try:
        write_atomically(path, text)
    except OSError as e:
        raise NothingMeasured(
            f"the samples could not be written to {path} ({e.strerror}): nothing was kept"
        ) from e


def write_atomically(path: Path, text: str) -> None:
    """Through a temporary neighbour and a rename."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_measurement(path: Path) -> Measurement:
    """The record at `path`; another schema version is refused."""
    try:
        return measurement_from(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise InputError(f"{path} is no measurement of this version: {e}") from e


def measurement_from(stored: Mapping[str, Any]) -> Measurement:
    if stored.get("schema") != SCHEMA:
        raise ValueError(f"schema is {stored.get('schema')!r}, this version reads {SCHEMA!r}")
    values = dict(stored)
    artifact = dict(values["artifact"])
    artifact["path"] = Path(artifact["path"])
    values["artifact"] = Artifact(**artifact)
    values["fingerprint"] = Fingerprint(**values["fingerprint"])
    values["rounds"] = tuple(
        Round(**{**one, "cores": tuple(one["cores"])}) for one in values["rounds"]
    )
    for name in ("blocks", "discarded"):
        values[name] = tuple(_block(one) for one in values[name])
    return Measurement(**values)


def _block(stored: Mapping[str, Any]) -> Block:
    values = dict(stored)
    values["samples_ns"] = tuple(values["samples_ns"])
    values["disturbances"] = tuple(values["disturbances"])
    return Block(**values)
