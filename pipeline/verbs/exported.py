"""`shoal export`: the networks of a job in the precisions that are asked for.

    RECIPE.toml     the dense network, trained if it is not there yet, and what `compress` delivered
    CHECKPOINT      the dense network of a recipe with these weights
    MODEL.onnx      itself: see `pipeline.verbs.exported_file`

The dense fp32 file is checked against torch (what `compress` delivered was checked there, and is
told as the report tells it), every other against the fp32 file it is made of. What fails its check
is not delivered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.finetune import predict
from pipeline.graphs.precision import parse_precisions
from pipeline.jobs.candidate import PARITY_TOLERANCE
from pipeline.jobs.dense import dense_network
from pipeline.jobs.job import Job
from pipeline.jobs.opening import goals_and_targets, opened
from pipeline.recipe import Recipe, load_recipe
from pipeline.report import read_document
from pipeline.reporting.documents import CandidateRecord, CompressDocument
from pipeline.reporting.progress import Reporter
from pipeline.verbs.export_document import (
    ExportDocument,
    Exported,
    exported_row,
    fp32_row,
    refused_row,
)
from pipeline.verbs.exported_file import export_file
from pipeline.verbs.variants import those_here, variants
from pipeline.verify import verify
from profiles.target import Target, find_target
from runtimes.base import Precision
from runtimes.errors import InputError
from runtimes.onnx_file import sha256


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for; no targets are the recipe's, or the reference."""

    source: str | None
    precisions: tuple[str, ...]
    recipe: str
    targets: tuple[str, ...] = ()
    calibration: Path | None = None
    out: Path | None = None


def export_files(wish: Wish, reporter: Reporter) -> ExportDocument:
    precisions = parse_precisions(wish.precisions)
    path = Path(wish.source or wish.recipe)
    if path.suffix == ".onnx":
        return export_file(
            path, precisions, targets=wish.targets, samples=wish.calibration, folder=wish.out
        )
    if wish.calibration is not None:
        raise InputError(
            "--calibration is for an ONNX file; a recipe calibrates on its own data set"
        )
    if path.suffix not in ("", ".toml") and not path.is_file():
        raise InputError(
            f"{str(path)!r} does not exist: give a recipe (.toml), a checkpoint or an ONNX file"
        )
    if path.suffix == ".toml" or not path.is_file():
        return _of_recipe(load_recipe(str(path)), precisions, wish, reporter)
    recipe = load_recipe(wish.recipe)
    weights = recipe.model.model_copy(update={"checkpoint": path.resolve()})
    return _of_recipe(recipe.model_copy(update={"model": weights}), precisions, wish, reporter)


def _of_recipe(
    recipe: Recipe, precisions: Sequence[Precision], wish: Wish, reporter: Reporter
) -> ExportDocument:
    targets = [find_target(name, recipe.folder) for name in wish.targets]
    targets = targets or goals_and_targets(recipe)[1]
    out = wish.out or recipe.workspace
    found, refused = [], []
    missing: dict[str, str] = {}
    with opened(recipe, reporter, out=out, resume=True) as (job, step), step("export"):
        networks = [_dense(job, targets)]
        try:
            document = _finished(out, networks[0].sha256)
            networks += [_shallow(candidate) for candidate in document.candidates]
        except InputError as e:
            missing["shallow"] = str(e)
        for network in networks:
            if "fp32" in precisions:
                found.append(network)
            for made in variants(job, Path(network.path), network.network, precisions, targets):
                if made.passed:
                    found.append(exported_row(network.network, made))
                else:
                    refused.append(refused_row(network.network, made))
    return ExportDocument(
        source=recipe.name, artifacts=tuple(found), refused=tuple(refused), missing=missing
    )


def _dense(job: Job, targets: Sequence[Target]) -> Exported:
    """The dense network, which torch has beside it."""
    model, folder = dense_network(job)
    split = job.splits.validation
    expected = predict(model, split.images)
    path = job.workspace.deliver(folder / "dense.onnx", "dense.onnx")
    parity = [
        verify(path, target, expected, split, tolerance=PARITY_TOLERANCE)
        for target in those_here(targets)
    ]
    for one in parity:
        if not one.passed:
            raise InputError(
                f"{path} differs from torch by {one.max_relative:.2g} of the largest output on "
                f"{one.target} (limit {one.tolerance:g}): nothing is made of it"
            )
    return fp32_row("dense", path, parity)


def _finished(out: Path, dense: str) -> CompressDocument:
    """What `compress` left, if it is of this dense network."""
    if not (out / "report.json").is_file():
        raise InputError(f"{str(out)!r} holds no finished job: run `shoal compress` first")
    document = read_document(out)
    if dense not in {artifact.sha256 for artifact in document.dense.artifacts}:
        raise InputError(
            f"the finished job in {str(out)!r} is of another dense network: run `shoal compress` "
            "again, or give --out"
        )
    return document


def _shallow(candidate: CandidateRecord) -> Exported:
    record = next(one for one in candidate.artifacts if one.precision == "fp32")
    path = Path(record.path)
    if not path.is_file() or sha256(path) != record.sha256:
        raise InputError(
            f"{path} is not the file that the job delivered: run `shoal compress --resume`"
        )
    return fp32_row(path.stem, path, candidate.parity)
