"""The dense network: trained or loaded, exported, and the statistics of its activations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from pipeline.activations import SiteStatistics, Statistics, collect
from pipeline.export import export
from pipeline.finetune import Schedule, train
from pipeline.jobs.job import Job
from pipeline.models import build_model, digest
from pipeline.recipe import TrainTable
from runtimes.errors import InputError
from runtimes.onnx_file import sha256

CALIBRATION_BATCH = 250
SHOWN = 160  # characters of what torch says


def dense_network(job: Job) -> tuple[nn.Module, Path]:
    """Train the network, or load the user's weights, and export it; the stage's folder."""
    recipe = job.recipe
    model = build_model(
        recipe.model.spec,
        num_classes=job.splits.num_classes,
        in_channels=job.splits.in_channels,
        vocabulary=job.splits.vocabulary,
        seed=recipe.seed,
        options=recipe.model.options,
        folders=[recipe.folder],
        reporter=job.reporter,
    )
    key: dict[str, Any] = {
        "model": recipe.model.model_dump(mode="json"),
        "built": digest(model),
        "data": job.splits.sha256(),
        "seed": recipe.seed,
    }
    checkpoint = recipe.model.checkpoint
    if checkpoint is None:
        key["train"] = recipe.train.model_dump(mode="json")
    else:
        checkpoint = recipe.folder / checkpoint
        if not checkpoint.is_file():
            raise InputError(f"checkpoint {str(checkpoint)!r} does not exist; see [model]")
        key["checkpoint"] = sha256(checkpoint)

    def produce(folder: Path) -> None:
        if checkpoint is None:
            _train_dense(job, model)
        else:
            load_weights(model, checkpoint)
        torch.save(model.state_dict(), folder / "weights.pt")
        export(model, job.example, folder / "dense.onnx")

    found = job.workspace.finished("dense", key)
    if found:
        job.reporter.say(f"dense network: trained before, found in {found}")
    folder = job.workspace.stage("dense", key, produce)
    load_weights(model, folder / "weights.pt")
    return model.eval(), folder


def _train_dense(job: Job, model: nn.Module) -> None:
    schedule, split = schedule_of(job.recipe.train), job.splits.train
    with job.reporter.task("training the dense network", schedule.epochs * len(split)) as step:
        train(model, split, schedule, seed=job.recipe.seed, step=step)


def load_weights(model: nn.Module, path: Path) -> None:
    """Give `model` the weights in the file, which torch has written: a state dict and no more."""
    try:
        found = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as e:  # torch.load raises errors of many types for a broken file
        raise InputError(
            f"{path} is no file of weights: torch says {_first_line(e)!r}; write it with "
            "torch.save(model.state_dict(), path)"
        ) from e
    if not isinstance(found, Mapping):
        raise InputError(
            f"{path} holds a {type(found).__name__}, not weights by name: write it with "
            "torch.save(model.state_dict(), path)"
        )
    try:
        model.load_state_dict(found)
    except RuntimeError as e:
        wrong = [line.strip().rstrip(".") for line in str(e).splitlines()[1:]]
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise InputError(
            f"{path} holds no weights of this model: {_shortened(wrong[0])}{more}; "
            "is the spec of [model], with its options, that of the network that was trained?"
        ) from e


def _first_line(error: Exception) -> str:
    return _shortened(str(error).strip().partition("\n")[0] or type(error).__name__)


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def schedule_of(table: TrainTable) -> Schedule:
    return Schedule(
        table.epochs,
        table.batch_size,
        table.learning_rate,
        table.weight_decay,
        table.momentum,
        table.flip,
        table.bf16,
        table.optimizer,
    )


def calibrated(job: Job, traced: fx.GraphModule, after: Path) -> Statistics:
    """Counters and moments of every site over the calibration images."""
    key = {"after": after.name, "images": len(job.calibration)}

    def produce(folder: Path) -> None:
        batches = job.calibration.split(CALIBRATION_BATCH)
        with job.reporter.task("calibrating", len(job.calibration)) as step:
            found = collect(traced, batches, step=step)
        arrays = {
            f"{i}.{f.name}": np.asarray(getattr(site, f.name))
            for i, site in enumerate(found.sites)
            for f in fields(SiteStatistics)
        }
        arrays["samples"] = np.asarray(found.samples)
        np.savez(folder / "statistics.npz", allow_pickle=False, **arrays)

    folder = job.workspace.stage("statistics", key, produce)
    with np.load(folder / "statistics.npz") as stored:
        count = len([name for name in stored.files if name.endswith(".id")])
        sites = tuple(_site(stored, i) for i in range(count))
        return Statistics(int(stored["samples"]), sites)


def _site(stored: Mapping[str, np.ndarray], index: int) -> SiteStatistics:
    values = {f.name: stored[f"{index}.{f.name}"] for f in fields(SiteStatistics)}
    scalars = {"id": str(values["id"]), "kind": str(values["kind"]), "count": int(values["count"])}
    return SiteStatistics(**{**values, **scalars})
