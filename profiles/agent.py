"""The worker on a device: one JSON request per line on stdin, one JSON answer on stdout.

It holds loaded artifacts and times blocks of them; all decisions stay with the client. Whatever
an SDK prints goes to stderr, so that stdout carries answers only. Each request may bring a
deadline: when native code hangs, the kernel's alarm ends the process, even if the client is gone.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from time import perf_counter_ns
from typing import Any, TextIO

from profiles.device import Watch, find_device
from profiles.environment import fingerprint
from profiles.host import between, idlest_cores, peak_bytes, read_counters
from profiles.sampling import ClockError, time_block, timer_overhead_ns, warm_up
from runtimes.base import Runtime, Session, make
from runtimes.errors import InputError, RuntimeUnavailable
from runtimes.inputs import concrete_shape, seeded
from runtimes.onnx_file import read_declared

PROTOCOL = 1
LONGEST_LINE = 1 << 20

Request = Mapping[str, Any]
Answer = dict[str, Any]


class Agent:
    """The state of one worker process."""

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}
        self.runtime: Runtime | None = None
        self.threads = 1
        self.cores: tuple[int, ...] = ()
        self.watch: Watch | None = None  # of the device, where it is not the CPU alone
        self.verbs: dict[str, Callable[[Request], Answer]] = {
            "open": self.open,
            "load": self.load,
            "warm_up": self.warm_up,
            "block": self.block,
            "outputs": self.outputs,
            "layers": self.layers,
            "device_time": self.device_time,
            "fingerprint": self.fingerprint,
            "close": self.close,
        }

    def answer(self, line: str) -> Answer:
        """The answer to one request; an error is an answer too."""
        try:
            request = json.loads(line)
            verb = self.verbs.get(request.get("do"))
            if verb is None:
                raise InputError(f"no request {request.get('do')!r}; there are: "
                                 f"{', '.join(self.verbs)}")  # fmt: skip
            signal.alarm(int(request.get("deadline_s", 0)))
            return {"ok": verb(request)}
        except RuntimeUnavailable as e:
            return {"error": {"kind": "unavailable", "message": str(e)}}
        except InputError as e:
            return {"error": {"kind": "input", "message": str(e)}}
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as e:
            return {"error": {"kind": "request", "message": f"{type(e).__name__}: {e}"}}
        except ClockError as e:
            return {"error": {"kind": "clock", "message": str(e)}}
        except Exception as e:  # an SDK may raise anything, and the client must hear of it
            return {"error": {"kind": "runtime", "message": f"{type(e).__name__}: {e}"}}
        finally:
            signal.alarm(0)

    def open(self, request: Request) -> Answer:
        self.cores = tuple(request["cores"] or idlest_cores(request["threads"]))
        os.sched_setaffinity(0, self.cores)
        self.threads = request["threads"]
        self.runtime = make(request["runtime"], request["device"], request.get("settings"))
        device = find_device(request["runtime"], request["device"])
        self.watch = None if device is None else Watch(device)
        return {
            "protocol": PROTOCOL,
            "cores": self.cores,
            "runtime_version": self.runtime.version(),
            "timer_overhead_ns": timer_overhead_ns(),
        }

    def load(self, request: Request) -> Answer:
        if self.runtime is None:
            raise InputError("'load' came before 'open': open a runtime first")
        path, key = Path(request["path"]), request["key"]
        inputs = seeded(
            batch=request["batch"], seed=request["seed"], shapes=_shapes(request["shapes"])
        )
        started = perf_counter_ns()
        session = self.runtime.load(
            path, threads=self.threads, inputs=inputs, layers=request.get("layers", False)
        )
        loaded = perf_counter_ns()
        session.run()
        ran = perf_counter_ns()
        self.sessions[key] = session
        declared = read_declared(path)
        shapes = (
            concrete_shape(port, request["batch"], _shapes(request["shapes"]))
            for port in declared.inputs
        )
        return {
            "load_ms": (loaded - started) / 1e6,
            "first_inference_ms": (ran - loaded) / 1e6,
            "peak_bytes": peak_bytes(),
            "identity": {
                "shapes": ",".join("x".join(map(str, shape)) for shape in shapes),
                "precision": declared.precision,
                **session.identity(),
            },
        }

    def warm_up(self, request: Request) -> Answer:
        session = self.sessions[request["key"]]
        return asdict(
            warm_up(session.run, at_least_s=request["at_least_s"], at_most_s=request["at_most_s"])
        )

    def block(self, request: Request) -> Answer:
        session = self.sessions[request["key"]]
        device = self.watch.reading() if self.watch else None
        before = read_counters(self.cores)
        samples = time_block(session.run, min_runs=request["min_runs"], min_s=request["min_s"])
        surroundings = between(before, read_counters(self.cores))
        disturbances, seen = surroundings.disturbances(), asdict(surroundings)
        if self.watch and device:
            change = self.watch.between(device, self.watch.reading())
            disturbances = (*disturbances, *change.disturbances())
            seen["device"] = asdict(change)
        return {
            "start_ns": before.at_ns,
            "samples_ns": samples,
            "disturbances": disturbances,
            "surroundings": seen,
        }

    def outputs(self, request: Request) -> Answer:
        """Flat values of each output, for comparing runtimes."""
        arrays = self.sessions[request["key"]].outputs()
        return {name: array.ravel().tolist() for name, array in arrays.items()}

    def layers(self, request: Request) -> Answer:
        session = self.sessions[request["key"]]
        for _ in range(request["runs"]):
            session.run()
        return {"layers": [asdict(layer) for layer in session.layers()]}

    def device_time(self, request: Request) -> Answer:
        """Runs on the device's own clock; null where there is none."""
        session = self.sessions[request["key"]]
        times_ms = [session.device_ms() for _ in range(request["runs"])]
        return {"device_ms": None if None in times_ms else times_ms}

    def fingerprint(self, _request: Request) -> Answer:
        return asdict(fingerprint(self.watch.device if self.watch else None))

    def close(self, _request: Request) -> Answer:
        for session in self.sessions.values():
            session.close()
        self.sessions.clear()
        return {}


def _shapes(given: Mapping[str, list[int]]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape in given.items()}


def serve(agent: Agent, requests: TextIO, answers: TextIO) -> None:
    """Answer until the client closes its end."""
    while line := requests.readline(LONGEST_LINE):
        if not line.endswith("\n"):
            answer: Answer = {"error": {"kind": "request", "message": "line too long or cut off"}}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
            return
        answers.write(json.dumps(agent.answer(line)) + "\n")
        answers.flush()


def main() -> None:
    """Keep stdout for answers: file descriptor 1 becomes stderr for everybody else."""
    private = os.dup(1)
    os.dup2(2, 1)
    gc.disable()
    try:
        with os.fdopen(private, "w") as answers:
            serve(Agent(), sys.stdin, answers)
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(1)  # the client is gone


if __name__ == "__main__":
    main()
