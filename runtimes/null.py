"""The runtime that computes nothing: what remains is the cost of measuring itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtimes.base import Arrays, Inputs, Layer, Runtime
from runtimes.onnx_file import Declared, Port, read_declared


@dataclass(frozen=True, slots=True)
class NullSession:
    bound: Arrays
    declared: Declared
    threads: int
    profiled: bool

    def run(self) -> None:
        return None

    def outputs(self) -> Arrays:
        return {port.name: np.zeros(_sizes(port), port.dtype) for port in self.declared.outputs}

    def identity(self) -> dict[str, str]:
        return {"providers": "null", "inference_threads": str(self.threads)}

    def device_ms(self) -> float | None:
        return None

    def layers(self) -> tuple[Layer, ...]:
        if not self.profiled:
            return ()
        return tuple(Layer(name, kind, 0.0) for name, kind in self.declared.operators)

    def close(self) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Null:
    device: str = "cpu"

    def version(self) -> str:
        return "0"

    def providers(self) -> tuple[str, ...]:
        return ("null",)

    def load(
        self, path: Path, *, threads: int, inputs: Inputs, layers: bool = False
    ) -> NullSession:
        declared = read_declared(path)
        return NullSession(inputs(declared.inputs), declared, threads, layers)


def _sizes(port: Port) -> list[int]:
    return [size if isinstance(size, int) else 1 for size in port.shape]


RUNTIME: type[Runtime] = Null
