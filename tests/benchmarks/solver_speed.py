"""How long the solver takes for 200 segments x 8 options x 4 targets, and how far it proves.

    python tests/benchmarks/solver_speed.py [--seeds 6]

Every segment saves a random share on every target, more with the options that lose more; the
targets disagree by about 30 %. One line for each problem: seconds of the process and by the clock.
"""

from __future__ import annotations

import argparse
from time import perf_counter, process_time

import numpy as np

from pipeline.graphs.geometry import matrix
from pipeline.mapping import Option
from pipeline.planning import Limit, solve

SEGMENTS, OPTIONS, TARGETS = 200, 8, 4


def problem(seed: int, ratio: float) -> tuple[list[Option], dict[str, float], list[Limit]]:
    rng = np.random.default_rng(seed)
    dense = rng.uniform(0.01, 0.3, (SEGMENTS, 1))  # ms
    saved = np.sort(rng.uniform(0, 0.9, (SEGMENTS, OPTIONS)), axis=1)
    loss = rng.lognormal(-4, 1.5, (SEGMENTS, 1))
    loss = loss * np.sort(rng.uniform(0.1, 1.5, (SEGMENTS, OPTIONS)), axis=1)
    options = [
        Option(
            id=f"segment{s}/option{o}",
            segment=f"segment{s}",
            kind="refit",
            first=0,
            last=1,
            absorbs_shortcut=False,
            sites=(f"segment{s}#0",),
            geometry=matrix(1, 1),
            pooled=False,
            border="none",
            macs=1,
            macs_before=2,
            replaces=(f"{s}.0", f"{s}.1"),
        )
        for s in range(SEGMENTS)
        for o in range(OPTIONS)
    ]
    ids = [option.id for option in options]
    limits = []
    for target in range(TARGETS):
        changes = -dense * saved * rng.lognormal(0, 0.3, (SEGMENTS, OPTIONS))
        differences = dict(zip(ids, changes.ravel().tolist(), strict=True))
        whole = float(dense.sum())
        limits.append(Limit(f"target{target}", whole, differences, ratio * whole))
    return options, dict(zip(ids, loss.ravel().tolist(), strict=True)), limits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=6)
    seeds = parser.parse_args().seeds
    print("seed  budget  cpu_s  clock_s  loss  status")
    taken = []
    for seed in range(seeds):
        for ratio in (0.9, 0.75, 0.6):
            made = problem(seed, ratio)
            cpu, clock = process_time(), perf_counter()
            plan = solve(*made)
            taken.append(process_time() - cpu)
            assert plan is not None, "the problem has a plan"
            print(
                f"{seed:4}  {ratio:5}x  {taken[-1]:5.2f}  {perf_counter() - clock:7.2f}  "
                f"{plan.predicted_loss:.4f}  {plan.status}",
                flush=True,
            )
    print(f"largest {max(taken):.2f} s, median {np.median(taken):.2f} s of process time")


if __name__ == "__main__":
    main()
