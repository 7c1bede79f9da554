"""The contract of a runtime: load one artifact, bind its inputs once, run one inference.

Whoever loads gives a function from the declared inputs to arrays, so that shapes are known
before an SDK compiles and no runtime invents inputs of its own. A file's name is its
registration: `runtimes/ov.py` is runtime `ov`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Literal, Protocol

import numpy as np

import runtimes
from runtimes.errors import InputError, RuntimeUnavailable
from runtimes.onnx_file import Port, content_sha256, read_declared

NOT_RUNTIMES = frozenset({
    "base", "errors", "inputs", "onnx_file", "engine_cache", "trt_inspection",
    "read_back", "cuda", "cuda_pycuda", "cuda_python", "trt_build",
})  # fmt: skip
INSTALL = {
    "ort": "pip install onnxruntime",
    "ov": "pip install openvino",
    "trt": "pip install tensorrt (on JetPack: apt's, so a virtual environment needs "
    "--system-site-packages)",
}

Arrays = Mapping[str, np.ndarray]
Inputs = Callable[[tuple[Port, ...]], Arrays]
Setting = bool | int | str
Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")  # that a network is made in


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file that a runtime can load, and where it came from."""

    path: Path
    sha256: str  # of the file and of the weights that it keeps beside it
    precision: str
    batch: int
    parent: str | None = None  # sha256 of the artifact it was made from

    @classmethod
    def of(cls, path: Path, *, batch: int, parent: str | None = None) -> Artifact:
        """Read and hash the file, weights beside it included; a broken one is refused."""
        declared = read_declared(path)
        digest = content_sha256(path, declared.external)
        return cls(path, digest, declared.precision, batch, parent)


@dataclass(frozen=True, slots=True)
class Layer:
    """Time of one operator as the runtime executed it."""

    name: str
    kind: str
    time_ms: float
    precision: str | None = None  # as the runtime computed it; None where it does not say


class Session(Protocol):
    """One loaded artifact with its inputs bound."""

    def run(self) -> None:
        """One inference, finished when it returns."""
        ...

    def outputs(self) -> Arrays:
        """Copies of the outputs of the last run."""
        ...

    def identity(self) -> Mapping[str, str]:
        """Settings that change the meaning of a time, read back from the SDK."""
        ...

    def device_ms(self) -> float | None:
        """One more run on the device's own clock; None where there is the host's alone."""
        ...

    def layers(self) -> tuple[Layer, ...]:
        """Operators in the order of execution, run after run, if loaded with `layers=True`.

        An SDK that keeps means alone gives each once, the cold runs taken out.
        """
        ...

    def close(self) -> None: ...


class Runtime(Protocol):
    """One SDK; `device` names what it runs on, in the SDK's own words.

    A runtime is a dataclass: its other fields are its settings, each with a default.
    """

    def __init__(self, device: str = "cpu") -> None: ...

    def version(self) -> str: ...

    def providers(self) -> tuple[str, ...]:
        """What this SDK can run on here."""
        ...

    def load(
        self, path: Path, *, threads: int, inputs: Inputs, layers: bool = False
    ) -> Session: ...


def names() -> tuple[str, ...]:
    """Every runtime, installed or not."""
    found = (module.name for module in iter_modules(runtimes.__path__))
    return tuple(sorted(name for name in found if name not in NOT_RUNTIMES))


def get(name: str) -> type[Runtime]:
    """The runtime of that file name; its SDK is imported here."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"no runtime named {name!r}; there are: {', '.join(names())}{hint}")
    try:
        return import_module(f"runtimes.{name}").RUNTIME
    except ImportError as e:
        fix = INSTALL.get(name, f"pip install {e.name}")
        raise RuntimeUnavailable(f"runtime {name!r} is not installed here ({e}): {fix}") from e


def make(name: str, device: str, settings: Mapping[str, Setting] | None = None) -> Runtime:
    """The runtime of that name for that device; its settings are its fields and no others."""
    kind: Any = get(name)
    known = {field.name: field.default for field in fields(kind) if field.name != "device"}
    for key, value in (settings or {}).items():
        if key not in known:
            has = ", ".join(known) or "none"
            raise InputError(f"runtime {name!r} has no setting {key!r}; it has: {has}")
        if type(value) is not type(known[key]):
            wanted = type(known[key]).__name__
            raise InputError(f"setting {key!r} of runtime {name!r} is {value!r}, which is no "
                             f"{wanted}")  # fmt: skip
    return kind(device, **(settings or {}))
