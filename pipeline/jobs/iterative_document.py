"""The document of an iterated job, and how it is shown on a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Group
from rich.table import Table

from pipeline.feedback import Measured
from pipeline.jobs.procedures import Curve
from pipeline.reporting.documents import Verdict
from pipeline.verify import Parity


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRecord:
    """The dense network or what the loop made of it."""

    accuracy: float
    validation_accuracy: float
    macs: int
    depth: int
    activations: int
    artifact: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IterativeDocument:
    """What a job of the published loop prints; `measured` has both networks on every target."""

    schema: Literal["shoal.iterative/1"] = "shoal.iterative/1"
    name: str
    model: str
    dataset: str
    seed: int
    seconds: dict[str, float]
    dense: NetworkRecord
    shallow: NetworkRecord
    removed_sites: tuple[str, ...]
    merges: int
    curve: Curve
    certificate_rms_relative: float
    parity: tuple[Parity, ...]
    measured: tuple[Measured, ...]
    verdict: Verdict
    reasons: tuple[str, ...]
    recipe: dict[str, Any]
    report: str


def show_iterative(document: IterativeDocument) -> Group:
    curve = Table(title=f"{document.curve.criterion}, iterated: {document.name}")
    for name in ("round", "removed", "left", "epochs", "validation", "test", "dense as long", ""):
        curve.add_column(name, justify="left" if name == "removed" else "right")
    for p in document.curve.points:
        beside = "" if p.control_test is None else f"{p.control_test:.4f}"
        removed = ", ".join(p.removed) or "none"
        curve.add_row(
            *(f"{p.round}", removed, f"{p.activations}", f"{p.epochs}", f"{p.validation:.4f}"),
            *(f"{p.test:.4f}", beside, "passed" if p.passed else "too low"),
        )
    shallow, dense = document.shallow, document.dense
    lines = [
        f"dense {dense.accuracy:.4f}, shallow {shallow.accuracy:.4f} on the test images; "
        f"{len(document.removed_sites)} activations removed, {document.merges} merges, "
        f"{dense.macs:,} -> {shallow.macs:,} MACs, depth {dense.depth} -> {shallow.depth}"
    ]
    lines += [
        f"{m.target}: {m.latency_ms.value:.4g} ms, dense {m.dense_ms.value:.4g} ms, ratio "
        f"{m.ratio.value:.3f} [{m.ratio.lo:.3f}, {m.ratio.hi:.3f}]"
        for m in document.measured
    ]
    return Group(curve, *lines, document.verdict, *document.reasons, document.report)
