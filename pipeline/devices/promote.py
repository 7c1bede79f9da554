"""`shoal promote`: measure an artifact and keep it as the baseline of that name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from rich.table import Table

from pipeline.devices.bench import measure_alone
from pipeline.reporting.progress import Reporter
from profiles.fitness import judge
from profiles.measurement import Measurement, read_measurement
from profiles.store import Store, registry_folder
from profiles.target import Target
from runtimes.errors import InputError, NothingMeasured


@dataclass(frozen=True, slots=True)
class PromoteDocument:
    schema: str
    name: str
    target: str
    model: str
    sha256: str
    median_ms: float
    interval_ms: tuple[float, float]
    promoted_at: str
    registry: str


def promote(
    model: Path,
    target: Target,
    reporter: Reporter,
    *,
    name: str | None = None,
    note: str | None = None,
    samples: Path | None = None,
    rounds: int = 10,
) -> PromoteDocument:
    """`samples` is a record that `shoal bench --samples` wrote; without it, measure now."""
    if samples is not None:
        measured = _from_samples(samples, model, target)
    else:
        measured = measure_alone(target, model, reporter, rounds=rounds)
    fitness = judge([measured])
    if not fitness.fit:
        raise NothingMeasured(f"no baseline was stored: {fitness.reasons[0]}")
    store = Store(registry_folder())
    try:
        baseline = store.promote(name or model.stem, measured, note)
    finally:
        store.close()
    return PromoteDocument(
        schema="shoal.promote/1",
        name=baseline.name,
        target=baseline.target,
        model=str(model),
        sha256=measured.artifact.sha256,
        median_ms=measured.median_ms,
        interval_ms=measured.interval_ms,
        promoted_at=baseline.promoted_at,
        registry=str(store.folder),
    )


def _from_samples(samples: Path, model: Path, target: Target) -> Measurement:
    """The record, with the artifact where it is now; its hash tells whether it is the same."""
    measured = read_measurement(samples)
    if measured.target != target.name:
        raise InputError(
            f"{samples} was measured on {measured.target}, not on {target.name}: "
            f"give --target {measured.target}"
        )
    return replace(measured, artifact=replace(measured.artifact, path=model))


def show_promote(document: PromoteDocument) -> Table:
    table = Table(title=f"baseline {document.name} on {document.target}", show_header=False)
    lo, hi = document.interval_ms
    table.add_row("host_ms", f"{document.median_ms:.4g} ms  [{lo:.4g}, {hi:.4g}]")
    table.add_row("artifact", f"{document.model}, sha256 {document.sha256[:16]}")
    table.add_row("registry", document.registry)
    return table
