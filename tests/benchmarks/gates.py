"""How often the gate cries wolf, and how often it sees a real slow-down.

    python tests/benchmarks/gates.py [--gates 40] [--neighbour] [--out FILE.json]

Whole gates at the defaults: a 1 ms network against itself (A/A), and against itself with an
operator added that costs 3, 5 or 10 %. The operator's size is found by measuring: the width is
searched until paired rounds put the ratio where it is wanted, and the ratio really reached is
printed beside the nominal one. `--neighbour` keeps the other core busy with a process of its own.
Every gate's verdict, ratio, rounds and seconds are written down.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import monotonic

import circumstances
import numpy as np
from networks import plain_network

from profiles.calibration import rate
from profiles.comparison import ratio
from profiles.gate import FAIL, PAIRED, Rule, compare
from profiles.rounds import measure
from profiles.target import Target, find_target

SIZE = {"convolutions": 8, "channels": 48, "size": 28}
SLOW_DOWNS = (0.0, 0.03, 0.05, 0.10)
SEARCH_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Gate:
    slow_down: float
    verdict: str
    would_be: str  # before the host's fitness took it back
    ratio: float
    rounds: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    slow_down: float
    reached: float
    gates: int
    verdicts: dict[str, int]
    failed: float
    failed_lo: float
    failed_hi: float
    median_rounds: float
    longest_s: float


def slower_network(folder: Path, target: Target, slow_down: float) -> tuple[Path, float]:
    """The network with an added operator of about that cost, and the ratio measured."""
    base = plain_network(folder / "base.onnx", **SIZE)
    if slow_down == 0:
        return base, 1.0
    low, high = 16, 65536
    best, reached = base, 1.0
    while high - low > 0.02 * high:
        width = (low + high) // 2
        path = plain_network(folder / f"extra{width}.onnx", **SIZE, extra_width=width)
        first, second = measure(
            target, [base, path], rounds=SEARCH_ROUNDS, laps=PAIRED.laps, block_s=PAIRED.block_s
        )
        found = ratio(second, first).value
        if abs(found - 1 - slow_down) < abs(reached - 1 - slow_down):
            best, reached = path, found
        if abs(found - 1 - slow_down) < 0.002:
            break
        low, high = (width, high) if found < 1 + slow_down else (low, width)
    return best, reached


@contextmanager
def neighbour(wanted: bool) -> Iterator[None]:
    """Matrix products, on and off, in another process that may go to any core."""
    if not wanted:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(target=_work, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _work() -> None:
    matrix = np.random.default_rng(0).standard_normal((256, 256))
    while True:
        matrix = np.tanh(matrix @ matrix.T / 256)


def run(target: Target, gates: int, margin: float, slow_downs: list[float]) -> Iterator[Gate]:
    with tempfile.TemporaryDirectory() as folder:
        for slow_down in slow_downs:
            base = plain_network(Path(folder) / "base.onnx", **SIZE)
            candidate, reached = slower_network(Path(folder), target, slow_down)
            print(f"# wanted {1 + slow_down:.3f}, the added operator gives {reached:.4f}")
            for number in range(gates):
                started = monotonic()
                done = compare(target, base, candidate, rule=Rule(margin=margin), seed=number)
                told = done.decision.reason.rpartition("would have been ")[2].rstrip(")")
                verdict = done.decision.verdict
                gate = Gate(
                    slow_down, verdict, told if verdict == "UNFIT" else verdict,
                    done.decision.ratio.value, done.rounds, monotonic() - started,
                )  # fmt: skip
                print(f"  {number:3} {gate.would_be:12} {gate.ratio:.4f} {gate.rounds:3} rounds "
                      f"{gate.seconds:5.1f} s  ({gate.verdict})", flush=True)  # fmt: skip
                yield gate


def table(gates: list[Gate]) -> list[Row]:
    rows = []
    for slow_down in dict.fromkeys(gate.slow_down for gate in gates):
        these = [gate for gate in gates if gate.slow_down == slow_down]
        failed = rate(sum(gate.would_be == FAIL for gate in these), len(these))
        rows.append(
            Row(
                slow_down, median(gate.ratio for gate in these), len(these),
                dict(Counter(gate.would_be for gate in these)),
                failed.share, failed.lo, failed.hi,
                median(gate.rounds for gate in these), max(gate.seconds for gate in these),
            )
        )  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="x86-cpu")
    parser.add_argument("--gates", type=int, default=40)
    parser.add_argument("--margin", type=float, default=0.02)
    parser.add_argument("--slow-downs", type=float, nargs="*", default=list(SLOW_DOWNS))
    parser.add_argument("--neighbour", action="store_true")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    started = circumstances.now()
    with neighbour(asked.neighbour):
        gates = list(run(find_target(asked.target), asked.gates, asked.margin, asked.slow_downs))
    rows = table(gates)
    print("slow-down  ratio   FAIL [95 %]             rounds  longest  verdicts")
    for row in rows:
        print(f"{row.slow_down:8.0%}  {row.reached:.4f}  {row.failed:5.1%} "
              f"[{row.failed_lo:5.1%}, {row.failed_hi:5.1%}]  {row.median_rounds:6} "
              f"{row.longest_s:6.1f} s  {row.verdicts}")  # fmt: skip
    if asked.out:
        command = f"python tests/benchmarks/gates.py --target {asked.target} --gates {asked.gates}"
        circumstances.write(
            asked.out,
            "Whole gates at the defaults, a network against itself and against itself with an "
            "added operator; `reached` is what that operator really costs.",
            command + (" --neighbour" if asked.neighbour else ""),
            started,
            target=asked.target,
            margin=asked.margin,
            neighbour=asked.neighbour,
            rows=[asdict(row) for row in rows],
            gates=[asdict(gate) for gate in gates],
        )


if __name__ == "__main__":
    main()
