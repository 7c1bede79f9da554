"""From a finished job to the document of `shoal compress`."""

from __future__ import annotations

import platform
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from pipeline.documents import (
    ArtifactRecord,
    BudgetRecord,
    CandidateRecord,
    CertificateRecord,
    CompressDocument,
    DenseRecord,
    ExactRecord,
    Latency,
    ParityRecord,
    SiteRecord,
    Verdict,
)
from pipeline.feedback import Measured
from pipeline.mapping import load_model, map_model
from pipeline.plan_record import plan_record
from pipeline.result import Result
from profiles.remote import fingerprint_of_all
from profiles.target import find_target
from runtimes.onnx_file import sha256

PACKAGES = ("torch", "torchvision", "onnx", "onnxruntime", "openvino", "numpy", "scipy")


def summarise(result: Result) -> CompressDocument:
    recipe = result.job.recipe
    host = fingerprint_of_all([goal.target for goal in result.goals])
    verdict, reasons = judge(result)
    return CompressDocument(
        name=recipe.name,
        model=recipe.model.spec,
        dataset=result.job.splits.name,
        test_images=len(result.job.splits.test),
        seed=recipe.seed,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seconds=dict(result.seconds),
        targets=tuple(_budget(result, m) for m in result.measured),
        dense=_dense(result),
        exact_only=ExactRecord(
            options=result.exact.plan.options,
            measured_ms={m.target: _latency(m) for m in result.exact.measured},
        ),
        candidates=(_candidate(result),),
        chosen=0 if verdict == "PASS" else None,
        verdict=verdict,
        reasons=reasons,
        sites=tuple(_site(result, site.id) for site in result.map_.sites),
        fingerprint=dict(host.facts),
        missing=dict(host.missing),
        versions={"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
        recipe=recipe.model_dump(mode="json"),
        report=str((result.job.workspace.root / "report.html").resolve()),
    )


def judge(result: Result) -> tuple[Verdict, tuple[str, ...]]:
    """PASS when every budget is met by its upper bound and nothing was broken on the way."""
    failures, doubts = [], []
    for parity in result.parity:
        if not parity.passed:
            failures.append(
                f"{parity.target} differs from torch by {parity.max_relative:.2g} of the largest "
                f"logit, over {parity.tolerance:g}"
            )
    floor = result.job.recipe.plan.accuracy_floor
    if floor is not None and result.student_validation < floor:
        failures.append(
            f"validation accuracy {result.student_validation:.4f} is under the floor {floor}"
        )
    by_target = {measured.target: measured for measured in result.measured}
    for goal in result.goals:
        measured = by_target[goal.target.name]
        if measured.meets(goal.budget):
            continue
        shown = (
            f"{measured.latency_ms.value:.4g} ms = {measured.ratio.value:.3f}x dense "
            f"[{measured.ratio.lo:.3f}, {measured.ratio.hi:.3f}] on {measured.target} against "
            f"{goal.budget.text}"
        )
        (failures if measured.misses(goal.budget) else doubts).append(shown)
    if failures:
        return "FAIL", (*failures, *doubts)
    return ("INCONCLUSIVE", tuple(doubts)) if doubts else ("PASS", ())


def _budget(result: Result, measured: Measured) -> BudgetRecord:
    target = find_target(measured.target, result.job.recipe.folder)
    budget = next((g.budget for g in result.goals if g.target.name == measured.target), None)
    limit = budget.limit_ms(measured.dense_ms.value) if budget else None
    return BudgetRecord(
        target=measured.target,
        description=target.description,
        budget=budget.text if budget else None,
        limit_ms=limit,
    )


def _dense(result: Result) -> DenseRecord:
    return DenseRecord(
        accuracy=result.dense_accuracy,
        validation_accuracy=result.dense_validation,
        measured_ms={
            m.target: Latency(
                median_ms=m.dense_ms.value,
                interval_ms=(m.dense_ms.lo, m.dense_ms.hi),
                confidence=m.dense_ms.confidence,
                rounds=m.rounds,
                samples=m.samples,
            )
            for m in result.measured
        },
        macs=result.map_.macs,
        depth=result.map_.depth,
        activations=len(result.map_.sites),
        artifacts=(_artifact(result.dense_path),),
    )


def _candidate(result: Result) -> CandidateRecord:
    chosen = result.chosen
    after = map_model(load_model(result.collapsed.path))
    certificate = result.collapsed.certificate
    return CandidateRecord(
        name=" and ".join(f"{g.budget.text} on {g.target.name}" for g in result.goals),
        accuracy=result.student_accuracy,
        validation_accuracy=result.student_validation,
        measured_ms={m.target: _latency(m) for m in result.measured},
        macs=after.macs,
        depth=after.depth,
        activations=len(after.sites),
        artifacts=(_artifact(result.shallow_path),),
        plan=plan_record(result),
        removed_sites=tuple(site for option in chosen for site in option.sites),
        merged_operators=sum(result.operators(option) - 1 for option in chosen),
        accuracy_before_finetuning=result.student.before,
        certificate=CertificateRecord(
            max_abs=certificate.max_abs,
            rms_relative=certificate.rms_relative,
            border_rms_relative=certificate.border_rms_relative,
            tolerance=certificate.tolerance,
            inputs=len(certificate.inputs),
            passed=certificate.passed,
        ),
        parity=tuple(
            ParityRecord(
                target=p.target,
                images=p.images,
                max_relative=p.max_relative,
                top1_agreement=p.top1_agreement,
                accuracy=p.accuracy,
                tolerance=p.tolerance,
                passed=p.passed,
            )
            for p in result.parity
        ),
    )


def _latency(measured: Measured) -> Latency:
    return Latency(
        median_ms=measured.latency_ms.value,
        interval_ms=(measured.latency_ms.lo, measured.latency_ms.hi),
        ratio=measured.ratio.value,
        ratio_interval=(measured.ratio.lo, measured.ratio.hi),
        confidence=measured.ratio.confidence,
        rounds=measured.rounds,
        samples=measured.samples,
    )


def _site(result: Result, id_: str) -> SiteRecord:
    site = next(site for site in result.map_.sites if site.id == id_)
    refusal = next((r.reason for r in result.map_.refusals if r.site == id_), None)
    found = {
        scores.criterion: next((s.score for s in scores.sites if s.id == id_), None)
        for scores in result.scores
    }
    return SiteRecord(id=id_, kind=site.kind, segment=site.segment, scores=found, refusal=refusal)


def _artifact(path: Path) -> ArtifactRecord:
    return ArtifactRecord(path=str(path), sha256=sha256(path), precision="fp32")
