"""Budgets met by measuring, and what a choice by FLOPs measures at the same budget.

    python tests/benchmarks/plans.py [--networks resnet18 ...] [--targets x86-cpu ...]
                                     [--budgets 0.9 0.75 0.6] [--rounds 6] [--max-rounds 3]
                                     [--minutes 60] [--folder DIR]
                                     [--out tests/benchmarks/results/plans]

For every network (random weights: latency does not depend on them; exported once into the folder)
and target: dense is measured, then the latency table, then for every budget the closed loop, and
beside it the plan of the same solver with MACs in place of time. The table of a network is measured
once for all budgets and kept in the registry of the folder: another day is another folder.

OUT.json and OUT.md are written after every row. The same command goes on where it was cut short:
what OUT.json has is not measured again, what failed is tried again. After `--minutes` no row is
begun any more.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from plans_rows import Clock, Known, planned
from plans_table import Results, line
from torchvision import models

from pipeline.export import export
from pipeline.feedback import Goal
from pipeline.mapping import load_model, map_model
from pipeline.models import build_model
from pipeline.plans.latency_table import tabulate
from pipeline.plans.workbench import Bench
from pipeline.recipe import DEFAULT, load_recipe
from pipeline.reporting.progress import Reporter
from profiles.budget import parse_budget
from profiles.store import Store
from profiles.target import find_target

BUILT_IN = "built-in"
NETWORKS = (  # the cheapest first
    BUILT_IN,
    "mobilenet_v2",
    "resnet18",
    "efficientnet_b0",
    "resnet50",
    "swin_t",
    "vgg16_bn",
)
TARGETS = ("x86-cpu", "x86-openvino")
BUDGETS = (0.9, 0.75, 0.6)
TABLE_LIMITS_S = {"resnet18": 120.0, "mobilenet_v2": 300.0}  # on one core
RESULTS = Path(__file__).parent / "results" / "plans"


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


def run(arguments: argparse.Namespace, results: Results) -> None:
    """Every row that is not there; the failure of one network is written down, the others go on."""
    clock = Clock.begin()
    with closing(Store(arguments.folder / "registry")) as store:
        for name in arguments.networks:
            for target in arguments.targets:
                measured = results.keys()
                left = [b for b in arguments.budgets if (name, target, b) not in measured]
                if not left:
                    continue
                if clock.passed()[0] > 60 * arguments.minutes:
                    return
                try:
                    for row in rows_of(name, target, left, arguments, store, clock):
                        results.keep(row)
                        print(line(row), flush=True)
                except Exception as e:  # whatever it was, the other networks are still measured
                    traceback.print_exc()
                    results.fail(name, target, f"{type(e).__name__}: {e}")


def rows_of(
    name: str,
    target_name: str,
    budgets: Sequence[float],
    arguments: argparse.Namespace,
    store: Store,
    clock: Clock,
) -> Iterator[dict[str, Any]]:
    """One network on one target: dense, its table, then the budgets one by one."""
    network = load_model(exported(name, arguments.folder))
    map_ = map_model(network)
    ir.external_data.load_to_model(network)
    target = find_target(target_name)
    with tempfile.TemporaryDirectory(prefix="shoal-plans-") as scratch:
        bench = Bench(network, map_, Path(scratch), seed=0, rounds=arguments.rounds)
        taken = Clock.begin()
        kept = bench.keep(target)
        table = tabulate(bench, target, kept, map_.options, store, Reporter(quiet=True))
        known = Known(name, map_, bench, kept, table, taken.passed())
        print(said(known, target_name), flush=True)
        for budget in budgets:
            if clock.passed()[0] > 60 * arguments.minutes:
                return
            goal = Goal(target, parse_budget(f"{budget}x"))
            yield asdict(planned(known, goal, arguments.max_rounds))


def said(known: Known, target: str) -> str:
    """The table: what it is made of, what it took."""
    wall_s, cpu_s = known.seconds
    limit_s = TABLE_LIMITS_S.get(known.network)
    return (
        f"{known.network} on {target}: {known.kept.measured.latency_ms.value:.4g} ms, "
        f"{known.table.summary}; {wall_s:.0f} s, {cpu_s:.0f} s of CPU"
        f"{f' (limit {limit_s:.0f} s)' if limit_s else ''}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Budgets met by measuring, beside a choice by FLOPs."
    )
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--targets", nargs="+", default=TARGETS)
    parser.add_argument("--budgets", nargs="+", type=float, default=BUDGETS)
    parser.add_argument("--rounds", type=int, default=6, help="fresh processes per measurement")
    parser.add_argument("--max-rounds", type=int, default=3, help="plans that are tried")
    parser.add_argument("--minutes", type=float, default=60.0, help="then no row is begun")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "shoal-plans")
    parser.add_argument("--out", type=Path, default=RESULTS, help="without suffix")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    clock = Clock.begin()
    results = Results(arguments.out, " ".join(["python tests/benchmarks/plans.py", *sys.argv[1:]]))
    run(arguments, results)
    wall_s, cpu_s = clock.passed()
    print(f"all of it: {wall_s / 60:.1f} minutes, {cpu_s / 60:.1f} of CPU")
    print(results.markdown())


if __name__ == "__main__":
    main()
