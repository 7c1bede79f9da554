"""What one loaded artifact computes and where its time goes, without timing it as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from profiles.lease import lease
from profiles.rounds import BLOCK_WITHIN_S, LOAD_WITHIN_S, StartWorker, open_worker, start_worker
from profiles.target import Target
from profiles.worker import Asked
from runtimes.base import Layer

SETTLING_RUNS = 5


@dataclass(frozen=True, slots=True)
class LayerTime:
    """One executed operator: the median over runs."""

    name: str
    kind: str
    time_ms: float


def outputs_of(
    target: Target,
    path: Path,
    *,
    seed: int = 0,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    start: StartWorker = start_worker,
) -> dict[str, list[float]]:
    """Flat outputs for the seeded inputs; the same seed gives every target the same inputs."""
    with start(target) as worker:
        _load(worker, target, path, seed, shapes, layers=False)
        return worker.ask("outputs", within_s=BLOCK_WITHIN_S, key="0")


def layers_of(
    target: Target,
    path: Path,
    *,
    runs: int = 100,
    seed: int = 0,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    start: StartWorker = start_worker,
) -> tuple[LayerTime, ...]:
    """Time per executed operator from the runtime's own profiler, which slows it down a little."""
    with lease(target, f"profiling {path.name}"), start(target) as worker:
        _load(worker, target, path, seed, shapes, layers=True)
        answer = worker.ask("layers", within_s=BLOCK_WITHIN_S, key="0", runs=SETTLING_RUNS + runs)
    loading_run = 1
    return per_operator(
        [Layer(**one) for one in answer["layers"]],
        runs=loading_run + SETTLING_RUNS + runs,
        skip=loading_run + SETTLING_RUNS,
    )


def per_operator(layers: list[Layer], *, runs: int, skip: int) -> tuple[LayerTime, ...]:
    """Medians by name, the first `skip` runs left out.

    A name may stand for several executions in a run, and OpenVINO leaves out what took no time.
    """
    times: dict[tuple[str, str], list[float]] = {}
    for layer in layers:
        times.setdefault((layer.name, layer.kind), []).append(layer.time_ms)
    found = []
    for (name, kind), all_ms in times.items():
        per_run = max(1, round(len(all_ms) / runs))
        settled = all_ms[len(all_ms) * skip // runs :]
        found.append(LayerTime(name, kind, per_run * median(settled)))
    return tuple(found)


def _load(
    worker: Asked,
    target: Target,
    path: Path,
    seed: int,
    shapes: Mapping[str, tuple[int, ...]] | None,
    layers: bool,
) -> None:
    open_worker(worker, target, target.cores)
    worker.ask(
        "load",
        within_s=LOAD_WITHIN_S,
        key="0",
        path=str(path.resolve()),
        batch=target.batch,
        seed=seed,
        shapes={name: list(shape) for name, shape in (shapes or {}).items()},
        layers=layers,
    )
