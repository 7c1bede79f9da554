"""Documents of finished jobs, made up, and a page as a browser reads it."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal

from pipeline.report import write_report
from pipeline.reporting.documents import (
    ArtifactRecord,
    BudgetRecord,
    CandidateRecord,
    CertificateRecord,
    CompressDocument,
    DenseRecord,
    Difference,
    ExactRecord,
    FrontierRow,
    Latency,
    ParityRecord,
    PlanRecord,
    PlanRound,
    SegmentPlan,
    SiteRecord,
    TargetRound,
    VariantParity,
    VariantRecord,
)

BLOCKS = [f"layer{stage}.{block}" for stage in range(1, 5) for block in range(2)]


def latency(median_ms: float, dense_ms: float | None = None) -> Latency:
    ratio = None if dense_ms is None else median_ms / dense_ms
    return Latency(
        median_ms=median_ms,
        interval_ms=(0.985 * median_ms, 1.018 * median_ms),
        ratio=ratio,
        ratio_interval=None if ratio is None else (0.98 * ratio, 1.01 * ratio),
        confidence=0.95,
        rounds=12,
        samples=24_000,
    )


def segment(name: str, *, refit: bool) -> SegmentPlan:
    change = Difference(predicted_ms=-0.021, measured_ms=-0.0195, interval_ms=(-0.022, -0.018))
    return SegmentPlan(
        segment=name,
        choice="refit" if refit else "keep",
        option=f"{name}/refit3" if refit else None,
        kernel=(3, 3) if refit else None,
        operators_before=2,
        operators_after=1 if refit else 2,
        removed_sites=(f"{name}.relu#0",) if refit else (),
        macs_before=903_168,
        macs_after=451_584 if refit else 903_168,
        difference={"x86-cpu": change} if refit else {},
    )


def candidate(name: str, *, refitted: int, accuracy: float, ms: float) -> CandidateRecord:
    segments = tuple(segment(block, refit=i < refitted) for i, block in enumerate(BLOCKS))
    rounds = tuple(
        PlanRound(
            options=(f"layer{block}.0/refit3",),
            predicted_loss=0.1,
            targets={
                "x86-cpu": TargetRound(
                    predicted_ms=0.204,
                    measured_ms=measured,
                    interval_ms=(0.98 * measured, 1.02 * measured),
                    budget_ms=0.2106,
                    meets=measured < 0.206,
                )
            },
        )
        for block, measured in ((2, 0.226), (1, ms))
    )
    return CandidateRecord(
        name=name,
        verdict="PASS",
        reasons=(),
        warm_start=None,
        frontier=None,
        accuracy=accuracy,
        validation_accuracy=accuracy - 0.001,
        measured_ms={"x86-cpu": latency(ms, 0.351), "x86-openvino": latency(0.9 * ms, 0.33)},
        macs=5_400_000,
        parameters=176_000,
        depth=10,
        activations=17 - refitted,
        artifacts=(ArtifactRecord(path="a.onnx", sha256="ab" * 32, precision="fp32"),),
        plan=PlanRecord(
            segments=segments,
            predicted_ms={"x86-cpu": 0.204},
            predicted_loss=0.1,
            status="optimal",
            rounds=rounds,
        ),
        removed_sites=tuple(site for part in segments for site in part.removed_sites),
        merged_operators=2 * refitted,
        accuracy_before_finetuning=0.849,
        certificate=CertificateRecord(
            max_abs=2.1e-5,
            rms_relative=3.2e-7,
            border_rms_relative=None,
            tolerance=1e-4,
            inputs=8,
            passed=True,
        ),
        parity=(
            ParityRecord(
                target="x86-openvino",
                images=512,
                max_relative=1.3e-6,
                top1_agreement=1.0,
                accuracy=accuracy,
                tolerance=1e-4,
                passed=True,
            ),
        ),
    )


def document() -> CompressDocument:
    sites = [SiteRecord(
        id="relu#0", kind="relu", segment=None, scores={"easier": 0.81, "residual": None},
        refusal="Conv conv1 feeds two operators",
    )]  # fmt: skip
    for i, block in enumerate(BLOCKS):
        scores = {"easier": 0.9 - 0.05 * i, "residual": 0.31 / (i + 1)}
        sites.append(
            SiteRecord(id=f"{block}.relu#0", kind="relu", segment=block, scores={**scores})
        )
    return CompressDocument(
        name="fashion-mnist",
        model="resnet18 (width 16)",
        dataset="fashion-mnist",
        test_images=10_000,
        seed=0,
        date="2026-05-01T12:00:00+00:00",
        seconds={"dense": 203.1, "plan": 41.0},
        targets=(
            BudgetRecord(
                target="x86-cpu", description="one thread", budget="0.6x", limit_ms=0.2106
            ),
            BudgetRecord(
                target="x86-openvino", description="one thread", budget=None, limit_ms=None
            ),
        ),
        dense=DenseRecord(
            accuracy=0.925,
            validation_accuracy=0.926,
            measured_ms={"x86-cpu": latency(0.351), "x86-openvino": latency(0.33)},
            macs=9_700_000,
            parameters=212_000,
            depth=21,
            activations=17,
            artifacts=(),
        ),
        exact_only=ExactRecord(
            options=("layer1.0/merge-5x5",), measured_ms={"x86-cpu": latency(0.329, 0.351)}
        ),
        frontier=(),
        accuracy_floor=None,
        candidates=(
            candidate("all-but-two", refitted=6, accuracy=0.9251, ms=0.229),
            candidate("all-blocks", refitted=8, accuracy=0.9227, ms=0.193),
        ),
        chosen=1,
        verdict="PASS",
        reasons=(),
        sites=tuple(sites),
        fingerprint={"cpu_model": "some CPU", "governor": None},
        missing={"governor": "no cpufreq here"},
        versions={"shoal": "0.1.0", "torch": "2.15.0"},
        recipe={"name": "fashion-mnist"},
        report="report.html",
    )


def narrow(network: Literal["dense", "shallow"], ms: float | None) -> VariantRecord:
    """In int8 and measured, or refused, where it has no time."""
    return VariantRecord(
        network=network,
        precision="int8",
        activations="uint8",
        path=None if ms is None else f"{network}-int8.onnx",
        sha256="cd" * 32,
        parent="ab" * 32,
        kept_fp32={"Softmax": 2},
        parity=(
            VariantParity(
                against="ab" * 32,
                target="x86-cpu",
                samples=6000,
                max_relative=0.08,
                top1_agreement=0.991,
                accuracy=0.9214,
                accuracy_change=-0.0013,
                tolerance=0.5,
                accuracy_loss_limit=0.02,
                passed=ms is not None,
            ),
        ),
        measured_ms={} if ms is None else {"x86-cpu": latency(ms, 0.351)},
        meets={} if ms is None else {"x86-cpu": ms < 0.2},
        reason="top-1 agreement 0.41 | too low" if ms is None else None,
    )


def row(removed: int, ratio: float, *, dominated: bool = False) -> FrontierRow:
    return FrontierRow(
        options=tuple(f"{block}/refit3" for block in BLOCKS[:removed]),
        removed_sites=tuple(f"{block}.relu#0" for block in BLOCKS[:removed]),
        predicted_loss=0.01 * removed,
        macs=9_700_000 - 451_584 * removed,
        predicted_ms={"x86-cpu": 0.351 * ratio},
        measured_ms={"x86-cpu": latency(0.351 * ratio, 0.351)},
        prediction_error={"x86-cpu": 0.0},
        meets={},
        dominated=dominated,
    )


def frontier_document() -> CompressDocument:
    """No budget, three of five plans trained, the last of them below the floor."""
    whole = document()
    return replace(
        whole,
        targets=tuple(replace(target, budget=None, limit_ms=None) for target in whole.targets),
        frontier=(row(0, 1.0), row(3, 0.85), row(4, 0.86, dominated=True), row(6, 0.65),
                  row(8, 0.55)),
        accuracy_floor=0.92,
        candidates=(
            replace(candidate("plan 1", refitted=3, accuracy=0.9251, ms=0.298), frontier=1),
            replace(
                candidate("plan 3", refitted=6, accuracy=0.9127, ms=0.229),
                frontier=3,
                warm_start="plan 1",
                verdict="FAIL",
                reasons=("validation accuracy 0.9117 is under the floor 0.92",),
            ),
        ),
        chosen=0,
        reasons=("plan 4 not trained: plan 3, which is less compressed, is below the floor",),
    )  # fmt: skip


class Page(HTMLParser):
    """What a browser would fetch or run, the words of the page, and whether its tags match."""

    VOID = frozenset({"meta", "line", "rect", "circle", "path", "br"})

    def __init__(self, text: str):
        super().__init__()
        self.fetched: list[str] = []
        self.words = ""
        self.open: list[str] = []
        self.mismatched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "link", "img", "iframe"}:
            self.fetched.append(tag)
        self.fetched += [name for name, _ in attrs if name in {"src", "href"} or name[:2] == "on"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.mismatched.append(tag)

    def handle_data(self, data: str) -> None:
        self.words += " " + " ".join(data.split())


def page(document: CompressDocument, folder: Path) -> Page:
    write_report(document, folder)
    return Page((folder / "report.html").read_text())
