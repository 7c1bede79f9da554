"""How a finished `shoal compress` is shown on a terminal, and its exit code."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table

from pipeline.reporting.documents import (
    CandidateRecord,
    CompressDocument,
    DenseRecord,
    VariantRecord,
)

EXIT_CODES = {"PASS": 0, "FAIL": 3, "INCONCLUSIVE": 4, "UNFIT": 4}


def exit_code(document: CompressDocument) -> int:
    return EXIT_CODES[document.verdict]


def show_compress(document: CompressDocument) -> Group:
    table = Table(title=f"{document.name}: {document.model} on {document.dataset}")
    for name in ("network", "test accuracy", "target", "median ms", "interval", "speed-up"):
        table.add_column(name, justify="left" if name in {"network", "target"} else "right")
    for name in ("activations removed", "operators merged", "MACs", "verdict"):
        table.add_column(name, justify="left" if name == "verdict" else "right")
    _rows(table, "dense", document.dense, ("0", "0", f"{document.dense.macs:,}", ""))
    for index, candidate in enumerate(document.candidates):
        counts = (f"{len(candidate.removed_sites)}", f"{candidate.merged_operators}")
        verdict = "chosen" if index == document.chosen else candidate.verdict
        _rows(table, candidate.name, candidate, (*counts, f"{candidate.macs:,}", verdict))
    exact = "; ".join(
        f"{latency.ratio:.2f}x dense on {target}"
        for target, latency in document.exact_only.measured_ms.items()
    )
    alone = f"fastest plan of exact merges alone ({len(document.exact_only.options)}): {exact}"
    certificates = [
        f"{c.name}: collapse certificate {_word(c.certificate.passed)} (relative RMS "
        f"{c.certificate.rms_relative:.1e}); "
        + "; ".join(
            f"{p.target} {_word(p.passed)}: {p.max_relative:.1e} from torch over {p.images} images"
            for p in c.parity
        )
        for c in document.candidates
    ]
    narrow = [_narrow(one) for one in document.precisions]
    verdict = f"{document.verdict}" + "".join(f"\n  {reason}" for reason in document.reasons)
    return Group(table, alone, *certificates, *narrow, verdict, f"report: {document.report}")


def _rows(
    table: Table, name: str, network: DenseRecord | CandidateRecord, last: tuple[str, ...]
) -> None:
    for index, (target, latency) in enumerate(network.measured_ms.items()):
        first = (name, f"{network.accuracy:.4f}") if index == 0 else ("", "")
        lo, hi = latency.interval_ms
        speed_up = f"{1 / latency.ratio:.2f}x" if latency.ratio else "1x"
        table.add_row(
            *first, target, f"{latency.median_ms:.4f}", f"[{lo:.4f}, {hi:.4f}]", speed_up, *last
        )
        last = ("",) * len(last)


def _narrow(variant: VariantRecord) -> str:
    name = f"{variant.network} in {variant.precision}"
    if variant.reason is not None:
        return f"{name} REFUSED: {variant.reason}"
    times = [
        f"{one.median_ms:.4f} ms = {one.ratio or 1:.3f}x dense in fp32 on {target}"
        for target, one in variant.measured_ms.items()
    ]
    change = min((p.accuracy_change or 0.0 for p in variant.parity), default=0.0)
    return f"{name}: {'; '.join(times)}; validation accuracy {change:+.4f}"


def _word(passed: bool) -> str:
    return "passed" if passed else "FAILED"
