"""The networks of a finished job in fewer bits: precision alone, and with the chosen depth.

The ranges are those of the collapsed network: a merge changes the weights, hence every tensor
behind them, so nothing is carried over from the dense one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pipeline.feedback import Goal, Measured
from pipeline.graphs.precision import activations_for
from pipeline.jobs.job import Job, measured_on
from pipeline.plans.measured_record import latency
from pipeline.plans.workbench import WARM_UP_S
from pipeline.reporting.documents import CompressDocument, VariantRecord
from pipeline.verbs.precision_bench import ACROSS, LAPS
from pipeline.verbs.variants import Variant, variants, why_refused
from profiles.rounds import measure
from profiles.target import Target
from runtimes.onnx_file import sha256


def in_precisions(
    job: Job, document: CompressDocument, goals: Sequence[Goal], targets: Sequence[Target]
) -> CompressDocument:
    """The document with every precision that the recipe asks for, verified and measured."""
    if set(job.recipe.precisions) == {"fp32"}:
        return document
    candidate = document.candidates[document.chosen or 0]
    dense, shallow = (Path(one.artifacts[0].path) for one in (document.dense, candidate))
    networks: list[tuple[Literal["dense", "shallow"], Path]]
    networks = [("dense", dense), ("shallow", shallow)]
    rows = [
        _row(job, network, dense, variant, goals, targets)
        for network, path in networks
        for variant in variants(job, path, path.stem, job.recipe.precisions, targets)
    ]
    return replace(document, precisions=tuple(rows))


def _row(
    job: Job,
    network: Literal["dense", "shallow"],
    dense: Path,
    variant: Variant,
    goals: Sequence[Goal],
    targets: Sequence[Target],
) -> VariantRecord:
    made = variant.made
    form = made.activations
    suited = [t for t in targets if form is None or form in activations_for([t])]
    found = [_measured(job, dense, variant.path, t) for t in suited] if variant.passed else []
    by_target = {one.target: one for one in found}
    return VariantRecord(
        network=network,
        precision=variant.precision,
        activations=made.activations,
        path=str(variant.path) if variant.passed else None,
        sha256=made.artifact.sha256,
        parent=made.artifact.parent,
        kept_fp32=dict(made.kept_fp32),
        parity=variant.parity,
        measured_ms={target: latency(one) for target, one in by_target.items()},
        meets={
            goal.target.name: by_target[goal.target.name].meets(goal.budget)
            for goal in goals
            if goal.target.name in by_target
        },
        reason=None if variant.passed else why_refused(variant),
    )


def _measured(job: Job, dense: Path, path: Path, target: Target) -> Measured:
    """Beside the dense network in fp32, as every other time of the job is."""
    rounds = job.recipe.plan.rounds
    key = {"artifact": sha256(path), "dense": sha256(dense), "rounds": rounds}

    def make() -> Measured:
        reference, narrow = measure(
            target,
            [dense, path],
            rounds=rounds,
            seed=job.recipe.seed,
            laps=LAPS,
            warm_up_s=WARM_UP_S,
        )
        return Measured.beside(reference, narrow, across=ACROSS)

    return job.record("narrow", {**key, **measured_on(target)}, Measured, make)
