"""Does the harness say what a bare loop and OpenVINO's own benchmark_app say?

    python tests/benchmarks/agreement.py [--rounds 7] [--realtime] [--waste 0.05] [--out FILE]

In every round the harness's worker and its rivals are alive at the same time, pinned to one core,
and take turns block by block; a host that becomes slower does so for both. A round's figure is
the median of its log ratios harness / rival, the estimate Hodges-Lehmann's over rounds with the
signed-rank interval. Goals: within 3 % of the bare loop, 5 % of benchmark_app.

    yes         the whole interval is inside of the goal
    NO          the whole interval is outside
    undecided   neither: more --rounds

Where other processes want the core too, a run's time is mostly theirs and how much so depends on
who has just been waiting: `--realtime` (needs root) keeps them off it for both sides alike.
`--waste 0.05` makes the bare loop idle that share of each run: then the answer has to be NO.
Blocks that the harness takes again because the host disturbed them count here like all others,
because the rival's are not taken again; `reported` is the ratio of the medians as users see them.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from dataclasses import asdict, dataclass
from math import exp
from pathlib import Path
from statistics import median
from time import monotonic

import circumstances
import torch
import torchvision
from networks import plain_network
from rivals import BareLoop, BenchmarkApp, Beside, Rival

from pipeline.devices.bench import ALONE
from profiles.lease import lease
from profiles.rounds import Trial
from profiles.statistics import signed_rank_interval
from profiles.target import Target, find_target

GOALS = {"bare loop": 0.03, "benchmark_app": 0.05}


@dataclass(frozen=True, slots=True)
class Agreement:
    network: str
    target: str
    against: str
    ratio: float
    interval: tuple[float, float]
    goal: float
    within: str  # yes, NO, undecided
    reported: float
    rounds: int
    harness_ms: float
    disturbed_share: float


def answer(lo: float, hi: float, goal: float) -> str:
    if 1 - goal <= lo and hi <= 1 + goal:
        return "yes"
    return "NO" if hi < 1 - goal or lo > 1 + goal else "undecided"


def networks(folder: Path) -> dict[str, tuple[Path, tuple[int, ...]]]:
    """resnet18 and mobilenet_v2 with random weights, and one of about 200 us."""
    torch.manual_seed(0)
    found = {}
    for name in ("resnet18", "mobilenet_v2"):
        network = torchvision.models.get_model(name, weights=None).eval()
        path = folder / f"{name}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            torch.onnx.export(
                network, (torch.randn(1, 3, 224, 224),), str(path), dynamo=True,
                external_data=False, verbose=False,
            )  # fmt: skip
        found[name] = (path, (1, 3, 224, 224))
    path = plain_network(folder / "plain.onnx", convolutions=6, channels=32, size=20)
    found["plain, about 200 us"] = (path, (1, 3, 20, 20))
    return found


def agreements(
    name: str, path: Path, shape: tuple[int, ...], target: Target, asked: argparse.Namespace
) -> list[Agreement]:
    rivals: dict[str, Rival] = {"bare loop": BareLoop(target.runtime, path, shape, asked.waste)}
    if target.runtime == "ov":
        rivals["benchmark_app"] = BenchmarkApp(path)
    workers: list[Beside] = []

    def start(_target: Target) -> Beside:
        workers.append(Beside(list(rivals.values()), asked.realtime))
        return workers[-1]

    trial = Trial(target, [path], seed=0, sampling=ALONE, start=start)
    with lease(target, f"comparing clocks on {path.name}"):
        for _ in range(asked.rounds):
            trial.round()
    (measured,) = trial.measurements()
    found = []
    for index, (against, goal) in enumerate((rival, GOALS[rival]) for rival in rivals):
        estimate = signed_rank_interval([median(worker.logs[index]) for worker in workers])
        lo, hi = exp(estimate.lo), exp(estimate.hi)
        theirs_ms = median(median(worker.theirs_ms[index]) for worker in workers)
        found.append(
            Agreement(
                name, target.name, against, exp(estimate.value), (lo, hi), goal,
                answer(lo, hi, goal), measured.median_ms / theirs_ms, asked.rounds,
                measured.median_ms, measured.disturbed_share(),
            )
        )  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--waste", type=float, default=0.0, help="share of each run, bare loop")
    parser.add_argument("--realtime", action="store_true", help="keep others off the core")
    parser.add_argument("--only", help="networks whose name contains this")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    started, began = circumstances.now(), monotonic()
    found: list[Agreement] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (path, shape) in networks(Path(folder)).items():
            if asked.only and asked.only not in name:
                continue
            for target in ("x86-cpu", "x86-openvino"):
                for one in agreements(name, path, shape, find_target(target), asked):
                    found.append(one)
                    print(
                        f"{one.network:20} {one.target:13} / {one.against:14} {one.ratio:.4f} "
                        f"[{one.interval[0]:.4f}, {one.interval[1]:.4f}]  within {one.goal:.0%}: "
                        f"{one.within:9}  reported {one.reported:.4f}, {one.harness_ms:.4g} ms, "
                        f"{one.disturbed_share:.0%} disturbed, {monotonic() - began:.0f} s",
                        flush=True,
                    )
    if asked.out:
        circumstances.write(
            asked.out,
            "The harness's median over that of a bare loop and of OpenVINO's benchmark_app.",
            f"python tests/benchmarks/agreement.py --rounds {asked.rounds} --waste {asked.waste:g}"
            + (" --realtime" if asked.realtime else ""),
            started,
            rows=[asdict(one) for one in found],
        )


if __name__ == "__main__":
    main()
