"""Where both kinds of job start from: the dense network as torch, as ONNX, mapped, on a bench."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import fx

from pipeline.edits.tracing import trace
from pipeline.jobs.dense import dense_network
from pipeline.jobs.job import Job
from pipeline.mapping import Map, load_model, map_model
from pipeline.plans.workbench import Bench


@dataclass(frozen=True, slots=True)
class Start:
    """`folder` is the stage of the dense network, which later stages name as what they follow."""

    dense: fx.GraphModule
    folder: Path
    map_: Map
    bench: Bench


def start(job: Job) -> Start:
    model, folder = dense_network(job)
    dense = trace(model, job.example)
    network = load_model(folder / "dense.onnx")
    rule, scratch = job.recipe.plan, job.workspace.scratch("bench")
    map_ = map_model(network, max_kernel=rule.max_kernel)
    bench = Bench(network, map_, scratch, seed=job.recipe.seed, rounds=rule.rounds, sizes=job.sizes)
    return Start(dense, folder, map_, bench)
