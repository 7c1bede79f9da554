"""Other ways of timing a network, alive beside the harness's worker and on its core.

A rival is asked for one block at a time. The bare loop is a process that stays: it warms up anew
before each block, so that what the harness's two settling runs might leave cold would show.
`benchmark_app` is a run of its own for each block.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from math import log
from pathlib import Path
from typing import Any, Protocol

from profiles.worker import Worker

WARM_S, BLOCK_S, APP_S = 0.1, 0.3, 1
LOADERS = {
    "ort": """
import sys, time, numpy as np, onnxruntime as ort
path, shape, waste = sys.argv[1], eval(sys.argv[2]), float(sys.argv[3])
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
image = np.random.default_rng(0).standard_normal(shape, np.float32)
bound = session.io_binding()
bound.bind_ortvalue_input(session.get_inputs()[0].name, ort.OrtValue.ortvalue_from_numpy(image))
bound.bind_output(session.get_outputs()[0].name, "cpu")
infer = lambda: session.run_with_iobinding(bound)
""",
    "ov": """
import sys, time, numpy as np, openvino as ov
path, shape, waste = sys.argv[1], eval(sys.argv[2]), float(sys.argv[3])
settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": "1", "NUM_STREAMS": "1",
            "INFERENCE_PRECISION_HINT": "f32"}
request = ov.Core().compile_model(path, "CPU", settings).create_infer_request()
image = np.random.default_rng(0).standard_normal(shape, np.float32)
request.set_input_tensor(ov.Tensor(image, shared_memory=True))
infer = lambda: request.infer(None, share_inputs=True, share_outputs=True)
""",
}
LOOP = """
def run():
    start = time.perf_counter()
    infer()
    end = time.perf_counter()
    end += waste * (end - start)
    while waste and time.perf_counter() < end:
        pass
def timed(seconds):
    times, end = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter_ns()
        run()
        times.append(time.perf_counter_ns() - start)
    return times
timed(1.0)
for line in sys.stdin:
    warm, block = map(float, line.split())
    timed(warm)
    print(np.median(timed(block)) / 1e6, flush=True)
"""


class Rival(Protocol):
    def start(self, core: int, realtime: bool) -> None: ...

    def block_ms(self) -> float:
        """The median of one block."""
        ...

    def stop(self) -> None: ...


def prepare(core: int, realtime: bool) -> None:
    """To be called in the new process, before the command is run."""
    os.sched_setaffinity(0, {core})
    if realtime:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


class BareLoop:
    """Run, read the clock, run; `waste` is the share of each run that it idles away on purpose."""

    def __init__(self, runtime: str, path: Path, shape: Sequence[int], waste: float):
        script = LOADERS[runtime] + LOOP
        self.command = [sys.executable, "-c", script, str(path), repr(tuple(shape)), str(waste)]

    def start(self, core: int, realtime: bool) -> None:
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            preexec_fn=partial(prepare, core, realtime),
        )  # fmt: skip

    def block_ms(self) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{WARM_S} {BLOCK_S}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


class BenchmarkApp:
    """OpenVINO's own; its times are taken inside of C++ and lack Python's few microseconds."""

    def __init__(self, path: Path):
        settings = path.with_suffix(".json")  # its own options for threads exclude -hint
        settings.write_text(json.dumps({"CPU": {"INFERENCE_NUM_THREADS": "1", "NUM_STREAMS": "1"}}))
        self.command = [
            str(Path(sys.executable).parent / "benchmark_app"), "-m", str(path), "-d", "CPU",
            "-hint", "latency", "-api", "sync", "-infer_precision", "f32",
            "-load_config", str(settings), "-t", str(APP_S),
        ]  # fmt: skip

    def start(self, core: int, realtime: bool) -> None:
        self.prepare = partial(prepare, core, realtime)

    def block_ms(self) -> float:
        done = subprocess.run(
            self.command, check=True, capture_output=True, text=True, preexec_fn=self.prepare
        )
        found = re.search(r"Median:\s+([\d.]+) (ms|us)", done.stdout)
        assert found is not None, done.stdout
        return float(found[1]) / (1 if found[2] == "ms" else 1e3)

    def stop(self) -> None:
        return None


class Beside(Worker):
    """The harness's worker; between two of its blocks a rival has one, and they take turns.

    Each rival's block lies between two of the harness's, whose mean is free of a steady drift:

        log ratio = (log ours before + log ours after) / 2 - log theirs
    """

    def __init__(self, rivals: Sequence[Rival], realtime: bool):
        super().__init__()
        if realtime:  # of the first thread, and of all that it will start
            os.sched_setscheduler(self.pid, os.SCHED_FIFO, os.sched_param(1))
        self.rivals = rivals
        self.realtime = realtime
        self.blocks = 0
        self.last_ms = 0.0
        self.logs: list[list[float]] = [[] for _ in rivals]
        self.theirs_ms: list[list[float]] = [[] for _ in rivals]

    def ask(self, do: str, *, within_s: float, **request: Any) -> dict[str, Any]:
        turn = self.blocks % len(self.rivals)
        theirs_ms = self.rivals[turn].block_ms() if do == "block" and self.blocks else None
        answer = super().ask(do, within_s=within_s, **request)
        if do == "open":
            for rival in self.rivals:
                rival.start(answer["cores"][0], self.realtime)
        if do == "block":
            samples = sorted(answer["samples_ns"])
            ours_ms = (samples[len(samples) // 2] + samples[(len(samples) - 1) // 2]) / 2e6
            if theirs_ms is not None:
                ours = (log(self.last_ms) + log(ours_ms)) / 2
                self.logs[turn].append(ours - log(theirs_ms))
                self.theirs_ms[turn].append(theirs_ms)
            self.last_ms = ours_ms
            self.blocks += 1
        return answer

    def __exit__(self, *error: object) -> None:
        for rival in self.rivals:
            rival.stop()
        super().__exit__(*error)
