"""`shoal collapse`: an ONNX file in, a certified shallower one out, or nothing written at all."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import onnx_ir as ir
from pydantic import TypeAdapter
from rich.console import Group
from rich.table import Table

from pipeline.collapse import Certificate, certify
from pipeline.collapse.collapsing import Collapsed, How, Merged, collapse
from pipeline.collapse.cost import Cost, cost_of
from pipeline.collapse.linearising import linearise
from pipeline.collapse.planned import merges_of_plan, read_stand_ins
from pipeline.collapse.sound import check_sound
from pipeline.mapping import load_model, map_model
from pipeline.reporting.output import check_out
from pipeline.reporting.progress import Reporter

LARGEST_SINGLE_FILE_BYTES = 3 * 2**29


class CertificateFailed(RuntimeError):
    """The collapsed network does not compute what it should: a defect here, nothing is written."""


@dataclass(frozen=True, slots=True)
class ResultRow:
    op: str
    kernel: tuple[int, ...]
    groups: int
    in_channels: int
    out_channels: int


@dataclass(frozen=True, slots=True)
class MergeRow:
    operators: tuple[str, ...]
    result: ResultRow
    border: str
    absorbed_shortcut: bool
    macs_before: int
    macs_after: int
    max_abs: float | None
    rms_relative: float | None
    border_rms_relative: float | None


@dataclass(frozen=True, slots=True)
class RefusalRow:
    operators: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class CertificateRow:
    """`moved_padding`: how far moving the padding, which was asked for, changed the function."""

    max_abs: float
    rms_relative: float
    border_rms_relative: float | None
    tolerance: float
    inputs: tuple[dict[str, tuple[int, ...]], ...]
    passed: bool
    moved_padding: MovedRow | None


@dataclass(frozen=True, slots=True)
class MovedRow:
    max_abs: float
    rms_relative: float
    border_rms_relative: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CollapseDocument:
    schema: str = "shoal.collapse/1"
    source: str
    source_sha256: str
    out: str
    linearised: tuple[str, ...]
    merges: tuple[MergeRow, ...]
    refusals: tuple[RefusalRow, ...]
    certificate: CertificateRow
    depth_before: int
    depth_after: int
    macs_before: int
    macs_after: int
    before: Cost
    after: Cost


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for; `merge` is cheaper, always, or the path of a plan."""

    linearise: tuple[str, ...] = ()
    stand_ins: Path | None = None
    merge: str = "cheaper"
    move_padding: bool = False
    max_kernel: int = 7
    tolerance: float | None = None
    seed: int = 0


def collapse_file(source: Path, out: Path, wish: Wish, reporter: Reporter) -> CollapseDocument:
    """Read, linearise, merge, certify, write."""
    check_out(out, source)
    model = load_model(source)
    check_sound(model, source)
    sites = map_model(model, max_kernel=wish.max_kernel).sites
    how: How
    if wish.merge in {"cheaper", "always"}:
        how, chosen = ("cheaper" if wish.merge == "cheaper" else "always"), list(wish.linearise)
    else:
        how, planned = merges_of_plan(Path(wish.merge), model, max_kernel=wish.max_kernel)
        chosen = [*wish.linearise, *planned]
    if "all" in chosen:
        chosen = [site.id for site in sites]
    stand_ins = read_stand_ins(wish.stand_ins) if wish.stand_ins else None
    linear = linearise(model, sites, chosen, stand_ins)
    reporter.say(f"merging {source.name}, {len(chosen)} activations linearised")
    done = collapse(linear, merge=how, move_padding=wish.move_padding, max_kernel=wish.max_kernel)
    reporter.say(f"certifying {len(done.merges)} merges")
    certificate = certify(
        done.reference, done.model, tolerance=wish.tolerance, seed=wish.seed, merges=done.merges
    )
    moved = None
    if any(merged.border == "moved" for merged in done.merges):
        shift = certify(linear, done.model, seed=wish.seed, merges=done.merges)
        moved = MovedRow(shift.max_abs, shift.rms_relative, shift.border_rms_relative)
    if not certificate.passed:
        raise CertificateFailed(
            f"{source} collapsed differs by {certificate.rms_relative:.2e} relative RMS "
            f"({certificate.border_rms_relative or 0.0:.2e} at borders), more than the tolerance "
            f"{certificate.tolerance:.0e}; nothing was written"
        )
    document = _document(source, out, chosen, done, certificate, moved, model)
    write(done.model, out, document)
    return document


def write(model: ir.Model, out: Path, document: CollapseDocument) -> None:
    """OUT and its certificate, each complete or not at all."""
    text = TypeAdapter(CollapseDocument).dump_json(document, indent=2).decode()
    proof = TypeAdapter(CertificateRow).dump_json(document.certificate).decode()
    proofs = {
        "shoal.version": shoal_version(),
        "shoal.source_sha256": document.source_sha256,
        "shoal.certificate": proof,
    }
    model.metadata_props.update(proofs)
    held = [v.const_value for v in model.graph.initializers.values() if v.const_value]
    external = sum(tensor.nbytes for tensor in held) > LARGEST_SINGLE_FILE_BYTES
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".shoal-") as folder:
        draft = Path(folder) / out.name
        ir.save(model, draft, external_data=f"{out.name}.data" if external else None)
        certificate = Path(folder) / "certificate.json"
        certificate.write_text(text)
        if external:
            (Path(folder) / f"{out.name}.data").replace(out.parent / f"{out.name}.data")
        draft.replace(out)
        certificate.replace(out.with_name(out.name + ".certificate.json"))


def shoal_version() -> str:
    try:
        return version("shoal")
    except PackageNotFoundError:
        return "not installed"


def _document(
    source: Path,
    out: Path,
    chosen: Sequence[str],
    done: Collapsed,
    certificate: Certificate,
    moved: MovedRow | None,
    model: ir.Model,
) -> CollapseDocument:
    before, after = cost_of(model), cost_of(done.model)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    return CollapseDocument(
        source=str(source),
        source_sha256=digest,
        out=str(out),
        linearised=tuple(chosen),
        merges=tuple(_merge(merged, certificate) for merged in done.merges),
        refusals=tuple(RefusalRow(kept.operators, kept.reason) for kept in done.refusals),
        certificate=CertificateRow(
            certificate.max_abs,
            certificate.rms_relative,
            certificate.border_rms_relative,
            certificate.tolerance,
            certificate.inputs,
            certificate.passed,
            moved,
        ),
        depth_before=before.depth,
        depth_after=after.depth,
        macs_before=before.macs,
        macs_after=after.macs,
        before=before,
        after=after,
    )


def _merge(merged: Merged, certificate: Certificate) -> MergeRow:
    found = next((d for d in certificate.merges if d.value == merged.output), None)
    geometry = merged.geometry
    return MergeRow(
        operators=merged.operators,
        result=ResultRow(
            merged.op, geometry.kernel, geometry.groups, geometry.in_channels, geometry.out_channels
        ),
        border=merged.border,
        absorbed_shortcut=merged.absorbed_shortcut,
        macs_before=merged.macs_before,
        macs_after=merged.macs_after,
        max_abs=found.max_abs if found else None,
        rms_relative=found.rms_relative if found else None,
        border_rms_relative=found.border_rms_relative if found else None,
    )


def show_collapse(document: CollapseDocument) -> Group:
    """Two tables and the certificate, for a terminal."""
    merges = Table(title="merged", title_justify="left")
    for column in ("operators", "result", "border", "MACs", "relative RMS"):
        merges.add_column(column)
    for row in document.merges:
        kernel = "x".join(map(str, row.result.kernel)) or "matrix"
        error = "" if row.rms_relative is None else f"{row.rms_relative:.1e}"
        cost = f"{row.macs_before:,} -> {row.macs_after:,}"
        merges.add_row(" ".join(row.operators), kernel, row.border, cost, error)
    kept = Table(title="kept", title_justify="left")
    kept.add_column("operators")
    kept.add_column("reason")
    for refusal in document.refusals:
        kept.add_row(" ".join(refusal.operators), refusal.reason)
    proof = document.certificate
    lines = [
        f"depth {document.depth_before} -> {document.depth_after}, "
        f"MACs {document.macs_before:,} -> {document.macs_after:,}",
        f"certificate passed: relative RMS {proof.rms_relative:.1e} (tolerance "
        f"{proof.tolerance:.0e}), written to {document.out}",
    ]
    if proof.moved_padding:
        moved = proof.moved_padding
        lines.append(
            "moving the padding changed the function: relative RMS "
            f"{moved.rms_relative:.1e}, at borders {moved.border_rms_relative or 0.0:.1e}"
        )
    return Group(merges, kept, *lines)
