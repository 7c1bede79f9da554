"""Budgets met by measuring, and what a choice by FLOPs measures at the same budget.

    python tests/benchmarks/plans.py [--networks resnet18 ...] [--targets x86-cpu ...]
                                     [--budgets 0.9 0.75 0.6] [--rounds 6] [--max-rounds 3]
                                     [--folder DIR] [--out tests/benchmarks/results/plans]

For every network (random weights: latency does not depend on them; exported once into the folder)
and target: dense is measured, then the latency table, then for every budget the closed loop, and
beside it the plan of the same solver with MACs in place of time. The table of a network is measured
once for all budgets and kept in the registry of the folder: another day is another folder. What
OUT.json has already is not measured again; OUT.md is its table.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from time import monotonic
from typing import Any

import onnx_ir as ir
import torch
from plans_table import line, read, table_of, write
from torchvision import models

from pipeline.export import export
from pipeline.feedback import Attempt, Goal, Measured, search
from pipeline.latency_table import Tabulated, tabulate
from pipeline.mapping import Map, load_model, map_model
from pipeline.models import build_model
from pipeline.planning import by_macs
from pipeline.progress import Reporter
from pipeline.recipe import DEFAULT, load_recipe
from pipeline.workbench import Bench, Kept
from profiles.budget import parse_budget
from profiles.environment import fingerprint
from profiles.store import Store
from profiles.target import find_target

BUILT_IN = "built-in"
NETWORKS = (
    BUILT_IN,
    "resnet18",
    "mobilenet_v2",
    "efficientnet_b0",
    "resnet50",
    "swin_t",
    "vgg16_bn",
)
TARGETS = ("x86-cpu", "x86-openvino")
BUDGETS = (0.9, 0.75, 0.6)
TABLE_LIMITS_S = {"resnet18": 120.0, "mobilenet_v2": 300.0}  # on one core
RESULTS = Path(__file__).parent / "results" / "plans"


@dataclass(frozen=True, slots=True)
class Whole:
    """A plan, measured: relative to dense beside it."""

    options: int
    removed_sites: int
    macs: float  # of dense
    predicted: float
    measured: float
    interval: tuple[float, float]
    median_ms: float
    meets: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One line: network, target, budget. `rounds`: of predicted and measured, in their order."""

    network: str
    target: str
    budget: float
    date: str
    device: str
    runtime: str
    dense_ms: float
    dense_interval_ms: tuple[float, float]
    sites: int
    offered: int
    table: str
    table_s: float
    table_cpu_s: float
    rounds: tuple[tuple[float, float], ...]
    feasible: bool
    plan: Whole
    flops: Whole
    seconds: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall and CPU seconds, of this process and of every worker that has ended, since `begin`."""

    wall_s: float
    cpu_s: float

    @classmethod
    def begin(cls) -> Clock:
        used = [getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN)]
        return cls(monotonic(), sum(one.ru_utime + one.ru_stime for one in used))

    def passed(self) -> tuple[float, float]:
        now = Clock.begin()
        return now.wall_s - self.wall_s, now.cpu_s - self.cpu_s


@dataclass(frozen=True, slots=True)
class Known:
    """A network on a target before any budget."""

    network: str
    map_: Map
    bench: Bench
    kept: Kept
    table: Tabulated
    seconds: tuple[float, float]


def exported(name: str, folder: Path) -> Path:
    """The ONNX file of the network, made once."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        if name == BUILT_IN:
            recipe = load_recipe(DEFAULT)
            network = build_model(
                recipe.model.spec, num_classes=10, in_channels=1, seed=0,
                options=recipe.model.options, folders=[recipe.folder],
            )  # fmt: skip
            example = torch.zeros(2, 1, 28, 28)
        else:
            torch.manual_seed(0)
            network = models.get_model(name, weights=None)
            example = torch.zeros(2, 3, 224, 224)
        draft = path.with_suffix(".draft")
        export(network, example, draft)
        draft.rename(path)
    return path


def whole(known: Known, attempt: Attempt, predicted: float) -> Whole:
    measured: Measured = attempt.measured[0]
    chosen = [known.bench.options[id_] for id_ in attempt.plan.options]
    saved = sum(option.macs_before - option.macs for option in chosen)
    return Whole(
        options=len(chosen),
        removed_sites=sum(len(option.sites) for option in chosen),
        macs=1 - saved / known.map_.macs,
        predicted=predicted,
        measured=measured.ratio.value,
        interval=(measured.ratio.lo, measured.ratio.hi),
        median_ms=measured.latency_ms.value,
        meets=attempt.meets[0],
    )


def planned(known: Known, goal: Goal, max_rounds: int) -> Row:
    """One budget: the closed loop, then the choice by MACs."""
    clock = Clock.begin()
    budget = goal.budget.ratio
    assert budget is not None, "budgets here are relative"
    options, dense = known.map_.options, known.kept.measured.latency_ms
    losses = {option.id: float(len(option.sites)) for option in options}
    found = search(
        known.bench, options, losses, [known.table.table], [goal],
        max_rounds=max_rounds, on_attempt=lambda _: None,
    )  # fmt: skip
    shares = [a.plan.predicted_ms[goal.target.name] / dense.value for a in found.attempts]
    measured = [a.measured[0].ratio.value for a in found.attempts]
    closest = min(range(len(measured)), key=lambda i: found.attempts[i].measured[0].ratio.hi)
    best = closest if found.best is None else found.best
    macs = known.map_.macs
    cheap = by_macs(options, losses, macs=macs, most=budget * macs)
    if cheap is None:  # out of reach: the fewest there are
        changes = {option.id: float(option.macs - option.macs_before) for option in options}
        cheap = by_macs(options, changes, macs=macs, most=macs)
        assert cheap is not None, "the dense network has no more MACs than itself"
    same = {frozenset(a.plan.options): a for a in found.attempts}
    flops = same.get(frozenset(cheap.options)) or known.bench.attempt(cheap, [goal])
    saved = sum(o.macs_before - o.macs for o in options if o.id in cheap.options)
    seconds, cpu_s = clock.passed()
    return Row(
        network=known.network,
        target=goal.target.name,
        budget=budget,
        date=datetime.now(timezone.utc).isoformat(timespec="minutes"),
        device=str(fingerprint().facts.get("cpu_model")),
        runtime=f"{goal.target.runtime} {known.kept.runtime_version.split(' ')[0]}",
        dense_ms=dense.value,
        dense_interval_ms=(dense.lo, dense.hi),
        sites=len(known.map_.sites),
        offered=len(options),
        table=known.table.summary,
        table_s=known.seconds[0],
        table_cpu_s=known.seconds[1],
        rounds=tuple(zip(shares, measured, strict=True)),
        feasible=found.best is not None,
        plan=whole(known, found.attempts[best], shares[best]),
        flops=whole(known, flops, 1 - saved / macs),
        seconds=seconds,
        cpu_s=cpu_s,
    )


def run(arguments: argparse.Namespace, results: Path) -> None:
    rows = read(results)
    reporter = Reporter()
    with closing(Store(arguments.folder / "registry")) as store:
        for name in arguments.networks:
            wanted = {
                target: [b for b in arguments.budgets if (name, target, b) not in keys(rows)]
                for target in arguments.targets
            }
            if not any(wanted.values()):
                continue
            network = load_model(exported(name, arguments.folder))
            map_ = map_model(network)
            ir.external_data.load_to_model(network)
            with tempfile.TemporaryDirectory(prefix="shoal-plans-") as scratch:
                bench = Bench(network, map_, Path(scratch), seed=0, rounds=arguments.rounds)
                for target_name, budgets in wanted.items():
                    if not budgets:
                        continue
                    target = find_target(target_name)
                    clock = Clock.begin()
                    kept = bench.keep(target)
                    table = tabulate(bench, target, kept, map_.options, store, reporter)
                    known = Known(name, map_, bench, kept, table, clock.passed())
                    print(said(known, target_name), flush=True)
                    for budget in budgets:
                        goal = Goal(target, parse_budget(f"{budget}x"))
                        rows.append(asdict(planned(known, goal, arguments.max_rounds)))
                        write(rows, results)
                        print(line(rows[-1]), flush=True)


def said(known: Known, target: str) -> str:
    """The table: what it is made of, what it took."""
    wall_s, cpu_s = known.seconds
    limit_s = TABLE_LIMITS_S.get(known.network)
    return (
        f"{known.network} on {target}: {known.kept.measured.latency_ms.value:.4g} ms, "
        f"{known.table.summary}; {wall_s:.0f} s, {cpu_s:.0f} s of CPU"
        f"{f' (limit {limit_s:.0f} s)' if limit_s else ''}"
    )


def keys(rows: Sequence[Mapping[str, Any]]) -> set[tuple[str, str, float]]:
    return {(row["network"], row["target"], row["budget"]) for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Budgets met by measuring, beside a choice by FLOPs."
    )
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--targets", nargs="+", default=TARGETS)
    parser.add_argument("--budgets", nargs="+", type=float, default=BUDGETS)
    parser.add_argument("--rounds", type=int, default=6, help="fresh processes per measurement")
    parser.add_argument("--max-rounds", type=int, default=3, help="plans that are tried")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "shoal-plans")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    clock = Clock.begin()
    run(arguments, arguments.out)
    wall_s, cpu_s = clock.passed()
    print(f"all of it: {wall_s / 60:.1f} minutes, {cpu_s / 60:.1f} of CPU")
    print(table_of(read(arguments.out)))


if __name__ == "__main__":
    main()
