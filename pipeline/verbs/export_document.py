"""The document of `shoal export`: what was written, what was held back, what was not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Group
from rich.table import Table

from pipeline.graphs.precision import Activations
from pipeline.reporting.documents import ParityRecord, VariantParity
from pipeline.verbs.variants import Variant, why_refused
from pipeline.verify import Parity
from runtimes.base import Precision
from runtimes.onnx_file import sha256

REFUSED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """`kept_fp32`: operators that compute in fp32 all the same, how many of each type."""

    network: str
    path: str
    sha256: str
    precision: Precision
    activations: Activations | None
    parent: str | None
    kept_fp32: dict[str, int]
    parity: tuple[VariantParity, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    network: str
    precision: Precision
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportDocument:
    """`missing`: networks that are not there to be exported, and why."""

    schema: Literal["shoal.export/1"] = "shoal.export/1"
    source: str
    artifacts: tuple[Exported, ...]
    refused: tuple[Refused, ...]
    missing: dict[str, str]


def exit_code(document: ExportDocument) -> int:
    return REFUSED if document.refused else 0


def fp32_row(network: str, path: Path, parity: Sequence[Parity | ParityRecord]) -> Exported:
    return Exported(
        network=network,
        path=str(path),
        sha256=sha256(path),
        precision="fp32",
        activations=None,
        parent=None,
        kept_fp32={},
        parity=tuple(
            VariantParity(
                against="torch",
                target=one.target,
                samples=one.images,
                max_relative=one.max_relative,
                top1_agreement=one.top1_agreement,
                accuracy=one.accuracy,
                accuracy_change=None,
                tolerance=one.tolerance,
                accuracy_loss_limit=None,
                passed=one.passed,
            )
            for one in parity
        ),
    )


def exported_row(network: str, variant: Variant) -> Exported:
    return Exported(
        network=network,
        path=str(variant.path),
        sha256=variant.made.artifact.sha256,
        precision=variant.precision,
        activations=variant.made.activations,
        parent=variant.made.artifact.parent,
        kept_fp32=dict(variant.made.kept_fp32),
        parity=variant.parity,
    )


def refused_row(network: str, variant: Variant) -> Refused:
    return Refused(network=network, precision=variant.precision, reason=why_refused(variant))


def show_export(document: ExportDocument) -> Group:
    table = Table(title=f"exported from {document.source}", title_justify="left")
    for column in ("file", "precision", "against", "on", "apart", "accuracy", "stays fp32"):
        table.add_column(column)
    for one in document.artifacts:
        kept = ", ".join(f"{count} {kind}" for kind, count in one.kept_fp32.items())
        form = f" ({one.activations} activations)" if one.activations else ""
        named = (one.path, one.precision + form)
        if not one.parity:
            table.add_row(*named, "", "", "", "", kept)
        for parity in one.parity:
            against = "torch" if parity.against == "torch" else "fp32"
            accuracy = "" if parity.accuracy is None else f"{parity.accuracy:.4f}"
            if parity.accuracy_change is not None:
                accuracy += f" ({parity.accuracy_change:+.4f})"
            apart = f"{parity.max_relative:.1e}"
            table.add_row(*named, against, parity.target, apart, accuracy, kept)
            named, kept = ("", ""), ""
    lines = [f"REFUSED {one.network} in {one.precision}: {one.reason}" for one in document.refused]
    lines += [f"no {name} network: {reason}" for name, reason in document.missing.items()]
    return Group(table, *lines)
