"""What every stage of a job shares: the recipe, the data, the workspace, the reporter.

A stage's value is made now, or found from an earlier, interrupted run. Records are JSON through
pydantic, arrays npz, weights state dicts; nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter
from torch import Tensor

from pipeline.datasets import Splits
from pipeline.networks.tokens import NAMES, is_text
from pipeline.recipe import Recipe
from pipeline.reporting.progress import Reporter
from pipeline.workspace import Workspace
from profiles.environment import DECISIVE
from profiles.remote import fingerprint_of
from profiles.target import Target
from runtimes.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job:
    recipe: Recipe
    splits: Splits
    workspace: Workspace
    reporter: Reporter

    def __post_init__(self) -> None:
        asked, there = self.recipe.calibration.images, len(self.splits.calibration)
        if asked is not None and asked > there:
            raise InputError(
                f"calibration.images = {asked}: the calibration split of {self.splits.name} has "
                f"{there}; ask for no more, or leave the key out to use them all"
            )

    @property
    def calibration(self) -> Tensor:
        """(n, channels, height, width), or texts: as many samples as the recipe asks for."""
        return self.splits.calibration.images[: self.recipe.calibration.images]

    @property
    def example(self) -> Tensor:
        """Two samples, for tracing and exporting."""
        return self.splits.calibration.images[:2]

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Of a sample to measure, where the network takes any: a text of full length."""
        images = self.splits.calibration.images
        return dict.fromkeys(NAMES, (images.shape[2],)) if is_text(images) else {}

    def record(self, name: str, key: Mapping[str, Any], kind: Any, make: Callable[[], T]) -> T:
        """A stage whose value is one JSON record of the type `kind`."""
        adapter: TypeAdapter[T] = TypeAdapter(kind)
        folder = self.workspace.stage(
            name,
            key,
            lambda path: write_bytes(path / "record.json", adapter.dump_json(make(), indent=2)),
        )
        return adapter.validate_json((folder / "record.json").read_bytes())


def write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def measured_on(target: Target) -> dict[str, Any]:
    """What a latency depends on besides the artifact: a resumed job on another host re-measures."""
    facts = fingerprint_of(target).facts
    host = {name: facts.get(name) for name in DECISIVE}
    return {"target": asdict(target), "host": host}
