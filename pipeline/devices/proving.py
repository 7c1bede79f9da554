"""`shoal doctor --target T --prove`: does the target compute what it is asked to compute?

Every check runs small networks on the target in a fresh worker and compares with what is known:
numpy for one node, ONNX Runtime on this machine's CPU for the rest. What comes out is a
certificate with versions, device and settings in it, for an issue or for the record.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.table import Table

from pipeline.devices.probes import half_network, quantised_network, stacked_network
from pipeline.reporting.progress import Reporter
from profiles.lease import lease
from profiles.rounds import BLOCK_WITHIN_S, LOAD_WITHIN_S, StartWorker, open_worker, start_worker
from profiles.target import Target, find_target, target_names
from profiles.worker import Asked
from runtimes import base
from runtimes.errors import InputError, NothingMeasured
from runtimes.inputs import seeded
from runtimes.onnx_file import one_node_model, read_declared

RUNS = 20
TOLERANCES = {"fp32": 1e-4, "fp16": 1e-2, "int8": 5e-2}  # of the largest value


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class ProofDocument:
    schema: str
    passed: bool
    shoal: str
    at: str  # UTC
    target: Mapping[str, Any]
    runtime_version: str
    identity: Mapping[str, str]
    checks: tuple[Check, ...]
    host: Mapping[str, Any]
    unknown: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Bench:
    """How to ask the target, and where the networks lie."""

    target: Target
    start: StartWorker
    folder: Path

    @contextmanager
    def opened(self) -> Iterator[tuple[Asked, dict[str, Any]]]:
        with self.start(self.target) as worker:
            yield worker, open_worker(worker, self.target, self.target.cores)

    def load(self, worker: Asked, path: Path, **request: Any) -> dict[str, str]:
        """The identity of the loaded network."""
        wanted = {"batch": 1, "seed": 0, "shapes": {}, **request}
        answer = worker.ask("load", within_s=LOAD_WITHIN_S, key="0", path=str(path), **wanted)
        return answer["identity"]

    def outputs(self, worker: Asked) -> np.ndarray:
        answer = worker.ask("outputs", within_s=BLOCK_WITHIN_S, key="0")
        return np.asarray(answer["y"], np.float64)


def prove(
    target: Target, reporter: Reporter, *, start: StartWorker = start_worker
) -> ProofDocument:
    """Run every check; a target that cannot be opened is the user's error, not a check."""
    with (
        tempfile.TemporaryDirectory() as folder,
        lease(target, "being proved", say=reporter.say),
        reporter.task(f"prove {target.name}", len(CHECKS)) as step,
    ):
        bench = Bench(target, start, Path(folder))
        with bench.opened() as (worker, opened):
            identity = bench.load(worker, _one_node(bench.folder))
            known = worker.ask("fingerprint", within_s=BLOCK_WITHIN_S)
        checks = []
        for name, check in CHECKS.items():
            checks.append(_tried(name, check, bench))
            step(len(checks))
    return ProofDocument(
        schema="shoal.proof/1",
        passed=all(check.passed for check in checks),
        shoal=metadata.version("shoal"),
        at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        target=asdict(target),
        runtime_version=opened["runtime_version"],
        identity=identity,
        checks=tuple(checks),
        host=known["facts"],
        unknown=known["missing"],
    )


def _tried(name: str, check: Callable[[Bench], tuple[bool, str]], bench: Bench) -> Check:
    try:
        passed, detail = check(bench)
    except (InputError, NothingMeasured) as e:
        return Check(name, False, str(e))
    return Check(name, passed, detail)


def one_node(bench: Bench) -> tuple[bool, str]:
    """y = max(x, 0), to the bit."""
    path = _one_node(bench.folder)
    image = seeded(batch=1)(read_declared(path).inputs)["x"]
    with bench.opened() as (worker, _):
        bench.load(worker, path)
        found = bench.outputs(worker)
    wrong = int((found != np.maximum(image, 0).ravel()).sum())
    return wrong == 0, f"{wrong} of {image.size} values differ from numpy's"


def agrees(
    bench: Bench, *, make: Callable[[Path], Path], precision: str, batch: int = 1
) -> tuple[bool, str]:
    """The same numbers as ONNX Runtime's, computed in the precision of the graph."""
    path = make(bench.folder / f"{precision}-{batch}.onnx")
    session = base.make("ort", "cpu").load(path, threads=1, inputs=seeded(batch=batch))
    session.run()
    expected = np.asarray(session.outputs()["y"], np.float64).ravel()
    with bench.opened() as (worker, _):
        computed_in = bench.load(worker, path, batch=batch).get("inference_precision")
        found = bench.outputs(worker)
    if found.shape != expected.shape:
        return False, f"{found.size} values, not {expected.size}"
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    told = computed_in or "a precision that it does not tell"
    detail = f"largest error {error:.1e} of the largest value, computed in {told}"
    return bool(error <= TOLERANCES[precision]), detail


def repeats(bench: Bench) -> tuple[bool, str]:
    """Two runs of one session on the same inputs."""
    path = stacked_network(bench.folder / "repeats.onnx")
    with bench.opened() as (worker, _):
        bench.load(worker, path)
        first = bench.outputs(worker)
        worker.ask("block", within_s=BLOCK_WITHIN_S, key="0", min_runs=2, min_s=0)
        second = bench.outputs(worker)
    same = bool((first == second).all())
    return same, "the same to the bit" if same else "the outputs of two runs differ"


def times(bench: Bench) -> tuple[bool, str]:
    """A run takes time, on the host's clock and on the device's where there is one."""
    path = stacked_network(bench.folder / "times.onnx")
    with bench.opened() as (worker, _):
        bench.load(worker, path)
        block = worker.ask("block", within_s=BLOCK_WITHIN_S, key="0", min_runs=RUNS, min_s=0)
        device = worker.ask("device_time", within_s=BLOCK_WITHIN_S, key="0", runs=RUNS)
    host_ms = median(block["samples_ns"]) / 1e6
    if device["device_ms"] is None:
        return host_ms > 0, f"{host_ms:.4f} ms on the host's clock; the device has none of its own"
    device_ms = median(device["device_ms"])
    detail = f"{host_ms:.4f} ms on the host's clock, {device_ms:.4f} ms on the device's"
    return host_ms > 0 and device_ms > 0, detail


def layers(bench: Bench) -> tuple[bool, str]:
    """The runtime's own profiler tells its operators."""
    path = stacked_network(bench.folder / "layers.onnx")
    with bench.opened() as (worker, _):
        bench.load(worker, path, layers=True)
        told = worker.ask("layers", within_s=BLOCK_WITHIN_S, key="0", runs=1)["layers"]
    total_ms = sum(layer["time_ms"] for layer in told)
    return total_ms > 0, f"{len(told)} operators"


CHECKS: dict[str, Callable[[Bench], tuple[bool, str]]] = {
    "one node computes what numpy does": one_node,
    "fp32 agrees": partial(agrees, make=stacked_network, precision="fp32"),
    "a dynamic batch of 3 agrees": partial(agrees, make=stacked_network, precision="fp32", batch=3),
    "fp16 agrees": partial(agrees, make=half_network, precision="fp16"),
    "int8 agrees": partial(agrees, make=quantised_network, precision="int8"),
    "two runs give the same": repeats,
    "a run takes time": times,
    "layers are timed": layers,
}


def chosen(target: str | None, proving: bool) -> Target:
    """The two options need each other."""
    if target is None:
        raise InputError("--prove needs a target: shoal doctor --target T --prove; "
                         f"there are: {', '.join(target_names())}")  # fmt: skip
    if not proving:
        raise InputError(f"--target {target} is for --prove: shoal doctor --target {target} "
                         "--prove")  # fmt: skip
    return find_target(target)


def exit_code(document: ProofDocument) -> int:
    return 0 if document.passed else 3


def show_proof(document: ProofDocument) -> Table:
    verdict = "proved" if document.passed else "NOT proved"
    table = Table(title=f"{document.target['name']}: {verdict}", show_header=False)
    for check in document.checks:
        table.add_row(check.name, "passed" if check.passed else "FAILED", check.detail)
    table.add_row("runtime", "", f"{document.target['runtime']} {document.runtime_version}")
    for name, value in document.identity.items():
        table.add_row(name, "", value)
    table.add_row("shoal", "", f"{document.shoal}, {document.at}")
    return table


def _one_node(folder: Path) -> Path:
    path = folder / "one_node.onnx"
    path.write_bytes(one_node_model())
    return path
