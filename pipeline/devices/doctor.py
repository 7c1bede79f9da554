"""`shoal doctor` and `shoal targets`: what this machine can do, proved by doing it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from profiles import device
from profiles.environment import fingerprint
from profiles.host import between, idlest_cores, read_counters
from profiles.reach import unreachable
from profiles.sampling import time_block
from profiles.target import Target, find_target, target_names
from profiles.worker import Worker
from runtimes import base
from runtimes.errors import InputError, NothingMeasured
from runtimes.onnx_file import one_node_model

NOISE_BLOCKS = 40
CPU_FACTS = ("cpu_model", "cores", "governor", "turbo", "smt", "cgroup_quota", "load")


@dataclass(frozen=True, slots=True)
class RuntimeReport:
    name: str
    available: bool
    version: str | None
    providers: tuple[str, ...]  # those that ran the one-node model
    reason: str | None


@dataclass(frozen=True, slots=True)
class Noise:
    """A fixed piece of arithmetic, timed in blocks on one core."""

    spread: float  # (90 % quantile - 10 % quantile) / median of the blocks' medians
    disturbed_share: float
    blocks: int


@dataclass(frozen=True, slots=True)
class DoctorDocument:
    schema: str
    runtimes: tuple[RuntimeReport, ...]
    targets: tuple[str, ...]
    unreachable: Mapping[str, str]  # target behind ssh -> why it does not let us in
    host: Mapping[str, Any]
    unknown: Mapping[str, str]
    noise: Noise


@dataclass(frozen=True, slots=True)
class TargetsDocument:
    schema: str
    targets: tuple[Mapping[str, Any], ...]


def doctor() -> DoctorDocument:
    known = fingerprint(device.own_device())
    names = target_names()
    return DoctorDocument(
        schema="shoal.doctor/1",
        runtimes=tuple(examine(name) for name in base.names()),
        targets=names,
        unreachable=unreachable(find_target(name) for name in names),
        host=known.facts,
        unknown=known.missing,
        noise=host_noise(),
    )


def examine(name: str) -> RuntimeReport:
    """Import the SDK and run a one-node model on each of its devices, in a worker."""
    try:
        runtime = base.get(name)()
        providers = runtime.providers()
    except InputError as e:
        return RuntimeReport(name, False, None, (), str(e))
    proved, failed = [], []
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "one_node.onnx"
        model.write_bytes(one_node_model())
        for provider in providers:
            why = _prove(name, provider, model)
            proved.append(provider) if why is None else failed.append(f"{provider}: {why}")
    return RuntimeReport(
        name, bool(proved), runtime.version(), tuple(proved), "; ".join(failed) or None
    )


def _prove(name: str, provider: str, model: Path) -> str | None:
    """Why the provider does not run the model, or None when it does."""
    try:
        with Worker() as worker:
            cores = idlest_cores(1, over_s=0)
            worker.ask("open", within_s=60, runtime=name, device=provider, threads=1, cores=cores)
            worker.ask("load", within_s=120, key="0", path=str(model), batch=1, seed=0, shapes={})
            worker.ask("close", within_s=60)
    except (InputError, NothingMeasured) as e:
        return str(e).replace(str(model), "the one-node model")
    return None


def host_noise() -> Noise:
    """How much the same work varies here, now."""
    before_affinity = os.sched_getaffinity(0)
    core = idlest_cores(1)
    os.sched_setaffinity(0, core)
    try:
        numbers = np.random.default_rng(0).standard_normal((64, 64))
        product = np.empty_like(numbers)
        medians, disturbed = [], 0

        def multiply() -> None:
            np.matmul(numbers, numbers, out=product)

        for _ in range(NOISE_BLOCKS):
            before = read_counters(core)
            samples = time_block(multiply, min_runs=50, min_s=0.005)
            disturbed += bool(between(before, read_counters(core)).disturbances())
            medians.append(float(np.median(samples)))
    finally:
        os.sched_setaffinity(0, before_affinity)
    low, middle, high = np.quantile(medians, [0.1, 0.5, 0.9])
    return Noise(float((high - low) / middle), disturbed / NOISE_BLOCKS, NOISE_BLOCKS)


def targets(name: str | None) -> TargetsDocument:
    """One target, or all of them."""
    found: list[Target] = [find_target(one) for one in ([name] if name else target_names())]
    return TargetsDocument("shoal.targets/1", tuple(asdict(target) for target in found))


def show_doctor(document: DoctorDocument) -> Table:
    table = Table(title="this machine", show_header=False)
    for one in document.runtimes:
        proof = f"{one.version}; ran a one-node model on {', '.join(one.providers)}"
        told = "; ".join(filter(None, [proof if one.available else "", one.reason]))
        table.add_row(f"runtime {one.name}", told)
    reached = [name for name in document.targets if name not in document.unreachable]
    table.add_row("targets reached", ", ".join(reached))
    if document.unreachable:
        why = "`shoal targets check NAME` says where it ends and what mends it"
        table.add_row("not reached", f"{', '.join(document.unreachable)}: {why}")
    told = [name for name in device.DECISIVE if name in document.host]  # where there is one
    for fact in (*CPU_FACTS, *told):
        value = document.host.get(fact)
        table.add_row(fact, document.unknown[fact] if value is None else str(value))
    noise = document.noise
    table.add_row(
        "noise",
        f"the same work varies by {noise.spread:.1%} (80 % of {noise.blocks} blocks); "
        f"{noise.disturbed_share:.0%} of them disturbed",
    )
    return table


def show_targets(document: TargetsDocument) -> Table:
    if len(document.targets) == 1:
        table = Table(title=document.targets[0]["name"], show_header=False)
        for name, value in document.targets[0].items():
            table.add_row(name, "" if value is None else str(value))
        return table
    table = Table("target", "runtime", "device", "threads", "transport", "what it is")
    for one in document.targets:
        columns = ("name", "runtime", "device", "threads", "transport", "description")
        table.add_row(*(str(one[column]) for column in columns))
    return table
