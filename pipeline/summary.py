"""From a finished job to the document of `shoal compress`."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from pipeline.candidate import Collapsed, Student
from pipeline.criteria import Scores
from pipeline.documents import (
    ArtifactRecord,
    BudgetRecord,
    CandidateRecord,
    CertificateRecord,
    CompressDocument,
    DenseRecord,
    Difference,
    ExactRecord,
    Latency,
    ParityRecord,
    PlanRecord,
    PlanRound,
    SegmentPlan,
    SiteRecord,
    TargetRound,
    Verdict,
)
from pipeline.feedback import Attempt, Goal, Measured, Outcome
from pipeline.job import Job
from pipeline.mapping import Map, Option, Segment, load_model, map_model
from pipeline.planning import LatencyTable
from pipeline.verify import Parity
from profiles.environment import fingerprint
from profiles.target import find_target
from runtimes.onnx_file import sha256

PACKAGES = ("torch", "torchvision", "onnx", "onnxruntime", "openvino", "numpy", "scipy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Everything that a finished job knows."""

    job: Job
    goals: tuple[Goal, ...]
    map_: Map
    options: tuple[Option, ...]
    scores: tuple[Scores, ...]
    tables: tuple[LatencyTable, ...]
    exact: Attempt
    outcome: Outcome
    dense_path: Path
    shallow_path: Path
    dense_accuracy: float
    dense_validation: float
    student: Student
    student_accuracy: float
    student_validation: float
    collapsed: Collapsed
    parity: tuple[Parity, ...]
    measured: tuple[Measured, ...]
    seconds: Mapping[str, float]


def summarise(result: Result) -> CompressDocument:
    recipe, host = result.job.recipe, fingerprint()
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
    chosen = _chosen(result)
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
        plan=_plan(result),
        removed_sites=tuple(site for option in chosen for site in option.sites),
        merged_operators=sum(_operators(result, option) - 1 for option in chosen),
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


def _chosen(result: Result) -> list[Option]:
    ids = result.outcome.chosen.plan.options
    return [option for option in result.options if option.id in ids]


def _operators(result: Result, option: Option) -> int:
    """How many operators with weights an option replaces, a projection shortcut included."""
    shortcut = result.map_.segment(option.segment).shortcut
    projection = option.absorbs_shortcut and shortcut is not None and shortcut.operator is not None
    return option.last - option.first + 1 + projection


def _plan(result: Result) -> PlanRecord:
    plan = result.outcome.chosen.plan
    chosen = _chosen(result)
    segments = []
    for segment in result.map_.segments:
        mine = [option for option in chosen if option.segment == segment.id]
        segments += [_choice(result, segment, option) for option in mine or [None]]
    return PlanRecord(
        segments=tuple(segments),
        predicted_ms=dict(plan.predicted_ms),
        predicted_loss=plan.predicted_loss,
        status=plan.status,
        rounds=tuple(_round(result, attempt) for attempt in result.outcome.attempts),
    )


def _choice(result: Result, segment: Segment, option: Option | None) -> SegmentPlan:
    if option is None:
        shortcut = segment.shortcut is not None and segment.shortcut.operator is not None
        count = len(segment.operators) + shortcut
        return SegmentPlan(
            segment=segment.id,
            choice="keep",
            option=None,
            kernel=None,
            operators_before=count,
            operators_after=count,
            removed_sites=(),
            macs_before=segment.macs,
            macs_after=segment.macs,
            difference={},
        )
    reckoned = result.outcome.chosen.plan.differences_ms
    return SegmentPlan(
        segment=segment.id,
        choice="refit" if option.kind == "refit" else "merge",
        option=option.id,
        kernel=option.geometry.kernel,
        operators_before=_operators(result, option),
        operators_after=1,
        removed_sites=option.sites,
        macs_before=option.macs_before,
        macs_after=option.macs,
        difference={
            table.target: Difference(
                predicted_ms=reckoned[table.target][option.id],
                measured_ms=table.differences[option.id].value,
                interval_ms=(
                    table.differences[option.id].lo,
                    table.differences[option.id].hi,
                ),
            )
            for table in result.tables
        },
    )


def _round(result: Result, attempt: Attempt) -> PlanRound:
    budgets = {goal.target.name: goal.budget for goal in result.goals}
    return PlanRound(
        options=attempt.plan.options,
        predicted_loss=attempt.plan.predicted_loss,
        targets={
            m.target: TargetRound(
                predicted_ms=attempt.plan.predicted_ms[m.target],
                measured_ms=m.latency_ms.value,
                interval_ms=(m.latency_ms.lo, m.latency_ms.hi),
                budget_ms=budgets[m.target].limit_ms(m.dense_ms.value),
                meets=meets,
            )
            for m, meets in zip(attempt.measured, attempt.meets, strict=True)
        },
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
