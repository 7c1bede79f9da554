"""From a finished job to the document of `shoal compress`."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import onnx_ir as ir

from pipeline.feedback import Measured
from pipeline.jobs.choosing import Contender, Judgement, choose, judge, overall
from pipeline.jobs.plan_record import plan_record
from pipeline.jobs.result import Candidate, Result
from pipeline.mapping import load_model, map_model
from pipeline.plans.measured_record import frontier_rows, latency
from pipeline.reporting.documents import (
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
)
from profiles.budget import UNLIMITED
from profiles.remote import fingerprint_of_all
from profiles.target import find_target
from runtimes.onnx_file import sha256

PACKAGES = ("torch", "torchvision", "onnx", "onnxruntime", "openvino", "numpy", "scipy")


def summarise(result: Result) -> CompressDocument:
    recipe = result.job.recipe
    host = fingerprint_of_all([goal.target for goal in result.goals])
    judgements = [
        judge(result.goals, one.measured, one.parity, one.student.validation, result.floor)
        for one in result.candidates
    ]
    chosen = _chosen(result, judgements)
    paths = _delivered(result, chosen)
    return CompressDocument(
        name=recipe.name,
        model=recipe.model.spec,
        dataset=result.job.splits.name,
        test_images=len(result.job.splits.test),
        seed=recipe.seed,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seconds=dict(result.seconds),
        targets=tuple(_budget(result, m) for m in result.candidates[0].measured),
        dense=_dense(result),
        exact_only=ExactRecord(
            options=result.exact.plan.options,
            measured_ms={m.target: latency(m) for m in result.exact.measured},
        ),
        frontier=frontier_rows(result.frontier, result.map_, result.goals),
        accuracy_floor=result.floor,
        candidates=tuple(
            _candidate(result, one, judgement, mine)
            for one, judgement, mine in zip(result.candidates, judgements, paths, strict=True)
        ),
        chosen=chosen,
        verdict=overall(judgements, chosen),
        reasons=_reasons(result, judgements, chosen),
        sites=tuple(_site(result, site.id) for site in result.map_.sites),
        fingerprint=dict(host.facts),
        missing=dict(host.missing),
        versions={"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
        recipe=recipe.model_dump(mode="json"),
        report=str((result.job.workspace.root / "report.html").resolve()),
    )


def _chosen(result: Result, judgements: Sequence[Judgement]) -> int | None:
    asked = {goal.target.name for goal in result.goals}
    contenders = [
        Contender(
            judgement,
            one.student.validation,
            tuple(m.ratio.value for m in one.measured if m.target in asked),
        )
        for one, judgement in zip(result.candidates, judgements, strict=True)
    ]
    return choose(contenders, result.job.recipe.plan.objective)


def _reasons(
    result: Result, judgements: Sequence[Judgement], chosen: int | None
) -> tuple[str, ...]:
    """Why nothing was chosen, and why training stopped before the last plan."""
    reasons = []
    if chosen is None:
        for one, judgement in zip(result.candidates, judgements, strict=True):
            name = f"{one.planned.name}: " if len(judgements) > 1 else ""
            reasons += [f"{name}{reason}" for reason in judgement.reasons]
    if result.untrained:
        reasons.append(
            f"{', '.join(result.untrained)} not trained: {result.candidates[-1].planned.name}, "
            "which is less compressed, is below the accuracy floor"
        )
    return tuple(reasons)


def _delivered(result: Result, chosen: int | None) -> list[list[Path]]:
    """Every candidate's file; of several the chosen one is `shallow.onnx` as well."""
    workspace, candidates = result.job.workspace, result.candidates
    if len(candidates) == 1 and not result.frontier:
        return [[workspace.deliver(candidates[0].collapsed.path, "shallow.onnx")]]
    paths = []
    workspace.withdraw("shallow*.onnx")
    for index, one in enumerate(candidates):
        paths.append([workspace.deliver(one.collapsed.path, f"shallow-{index + 1}.onnx")])
        if index == chosen:
            paths[-1].insert(0, workspace.deliver(one.collapsed.path, "shallow.onnx"))
    return paths


def _budget(result: Result, measured: Measured) -> BudgetRecord:
    target = find_target(measured.target, result.job.recipe.folder)
    known = {goal.target.name: goal.budget for goal in result.goals if goal.budget != UNLIMITED}
    budget = known.get(measured.target)
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
            for m in result.candidates[0].measured
        },
        macs=result.map_.macs,
        parameters=_parameters(load_model(result.dense_path)),
        depth=result.map_.depth,
        activations=len(result.map_.sites),
        artifacts=(_artifact(result.dense_path),),
    )


def _candidate(
    result: Result, candidate: Candidate, judgement: Judgement, paths: Sequence[Path]
) -> CandidateRecord:
    network = load_model(candidate.collapsed.path)
    after = map_model(network)
    certificate = candidate.collapsed.certificate
    return CandidateRecord(
        name=candidate.planned.name,
        verdict=judgement.verdict,
        reasons=judgement.reasons,
        warm_start=candidate.warm_start,
        frontier=candidate.planned.point,
        accuracy=candidate.accuracy,
        validation_accuracy=candidate.student.validation,
        measured_ms={m.target: latency(m) for m in candidate.measured},
        macs=after.macs,
        parameters=_parameters(network),
        depth=after.depth,
        activations=len(after.sites),
        artifacts=tuple(_artifact(path) for path in paths),
        plan=plan_record(result, candidate),
        removed_sites=tuple(site for option in candidate.options for site in option.sites),
        merged_operators=sum(len(option.replaces) - 1 for option in candidate.options),
        accuracy_before_finetuning=candidate.student.before,
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
            for p in candidate.parity
        ),
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


def _parameters(network: ir.Model) -> int:
    """All numbers that are stored: weights, biases, and what a graph has besides."""
    stored = [value.const_value for value in network.graph.initializers.values()]
    return sum(tensor.size for tensor in stored if tensor is not None)
