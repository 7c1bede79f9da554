"""Does the harness say what a bare loop and OpenVINO's own benchmark_app say?

    python tests/benchmarks/agreement.py [--rounds 10] [--out FILE]

Each round runs the harness, then a bare warmed-up loop with bound inputs in a process of its own
on the same core, then (OpenVINO) `benchmark_app -hint latency -api sync` there too, whose times
are taken inside of C++ and lack Python's few microseconds. The figure is the median over
rounds of the ratio harness / other, with its signed-rank interval; 3 % and 5 % are the goals.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from math import exp, log
from pathlib import Path

import torch
import torchvision
from networks import plain_network

from profiles.rounds import Sampling, Trial
from profiles.statistics import signed_rank_interval
from profiles.target import Target, find_target

ALONE = Sampling(block_s=0.1, min_runs=20, laps=5)
BARE = {
    "ort": """
import sys, time, numpy as np, onnxruntime as ort
path, shape, seconds = sys.argv[1], eval(sys.argv[2]), float(sys.argv[3])
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
image = np.random.default_rng(0).standard_normal(shape, np.float32)
bound = session.io_binding()
bound.bind_ortvalue_input(session.get_inputs()[0].name, ort.OrtValue.ortvalue_from_numpy(image))
bound.bind_output(session.get_outputs()[0].name, "cpu")
run = lambda: session.run_with_iobinding(bound)
""",
    "ov": """
import sys, time, numpy as np, openvino as ov
path, shape, seconds = sys.argv[1], eval(sys.argv[2]), float(sys.argv[3])
settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": "1", "NUM_STREAMS": "1",
            "INFERENCE_PRECISION_HINT": "f32"}
request = ov.Core().compile_model(path, "CPU", settings).create_infer_request()
image = np.random.default_rng(0).standard_normal(shape, np.float32)
request.set_input_tensor(ov.Tensor(image, shared_memory=True))
run = lambda: request.infer(None, share_inputs=True, share_outputs=True)
""",
}
LOOP = """
end = time.perf_counter() + seconds
while time.perf_counter() < end:
    run()
times, end = [], time.perf_counter() + seconds
while time.perf_counter() < end:
    start = time.perf_counter_ns()
    run()
    times.append(time.perf_counter_ns() - start)
print(np.median(times) / 1e6)
"""


@dataclass(frozen=True, slots=True)
class Agreement:
    network: str
    target: str
    against: str
    ratio: float
    interval: tuple[float, float]
    goal: float
    rounds: int
    harness_ms: float


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


def on_core(command: list[str], core: int) -> str:
    """What the command prints, pinned as the harness's worker was."""
    pin = partial(os.sched_setaffinity, 0, {core})
    done = subprocess.run(command, check=True, capture_output=True, text=True, preexec_fn=pin)
    return done.stdout


def bare_ms(runtime: str, path: Path, shape: tuple[int, ...], seconds: float, core: int) -> float:
    script = BARE[runtime] + LOOP
    return float(on_core([sys.executable, "-c", script, str(path), str(shape), str(seconds)], core))


def benchmark_app_ms(path: Path, seconds: float, core: int) -> float:
    """Threads go through a file: its own options for them exclude -hint."""
    app = Path(sys.executable).parent / "benchmark_app"
    settings = path.with_suffix(".json")
    settings.write_text(json.dumps({"CPU": {"INFERENCE_NUM_THREADS": "1", "NUM_STREAMS": "1"}}))
    said = on_core(
        [str(app), "-m", str(path), "-d", "CPU", "-hint", "latency", "-api", "sync",
         "-infer_precision", "f32", "-load_config", str(settings),
         "-t", str(max(1, round(seconds)))],
        core,
    )  # fmt: skip
    found = re.search(r"Median:\s+([\d.]+) (ms|us)", said)
    assert found is not None, said
    return float(found[1]) / (1 if found[2] == "ms" else 1e3)


def agreements(
    name: str, path: Path, shape: tuple[int, ...], target: Target, rounds: int, seconds: float
) -> list[Agreement]:
    trial = Trial(target, [path], seed=0, sampling=ALONE)
    others: dict[str, Callable[[int], float]] = {
        "bare loop": lambda core: bare_ms(target.runtime, path, shape, seconds, core)
    }
    if target.runtime == "ov":
        others["benchmark_app"] = lambda core: benchmark_app_ms(path, seconds, core)
    times: dict[str, list[float]] = {other: [] for other in others}
    for _ in range(rounds):
        trial.round()
        core = trial.measurements()[0].rounds[-1].cores[0]
        for other, time in others.items():
            times[other].append(time(core))
    (measured,) = trial.measurements()
    found = []
    for other, ms in times.items():
        logs = [log(ours / one) for ours, one in zip(measured.round_medians_ms(), ms, strict=True)]
        estimate = signed_rank_interval(logs)
        found.append(
            Agreement(
                name, target.name, other, exp(estimate.value),
                (exp(estimate.lo), exp(estimate.hi)),
                0.03 if other == "bare loop" else 0.05, rounds, measured.median_ms,
            )
        )  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", help="networks whose name contains this")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    found: list[Agreement] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (path, shape) in networks(Path(folder)).items():
            if asked.only and asked.only not in name:
                continue
            for target in ("x86-cpu", "x86-openvino"):
                for one in agreements(
                    name, path, shape, find_target(target), asked.rounds, asked.seconds
                ):
                    found.append(one)
                    reached = "yes" if abs(one.ratio - 1) <= one.goal else "NO"
                    print(
                        f"{one.network:20} {one.target:13} / {one.against:14} {one.ratio:.4f} "
                        f"[{one.interval[0]:.4f}, {one.interval[1]:.4f}]  "
                        f"within {one.goal:.0%}: {reached}  ({one.harness_ms:.4g} ms)",
                        flush=True,
                    )
    if asked.out:
        asked.out.write_text(json.dumps([asdict(one) for one in found], indent=2) + "\n")


if __name__ == "__main__":
    main()
