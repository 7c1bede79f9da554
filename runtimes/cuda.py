"""The little of CUDA that a runtime needs: memory, a stream, events, graphs.

TensorRT asks for device pointers and a stream handle as plain integers, so any binding will do:
pycuda, or NVIDIA's cuda-python on a board that has no compiler to build pycuda with. Both use the
device's primary context, never one of their own, or they would clash with torch in one process.
Copies happen outside of what is timed, so there is no page-locked memory and no overlap here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Protocol

import numpy as np

from runtimes.errors import RuntimeUnavailable

PYCUDA, CUDA_PYTHON = "cuda_pycuda", "cuda_python"
INSTALL = "pip install pycuda, or cuda-bindings where pycuda cannot be built"

Work = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Gpu:
    """What an engine depends on besides its network."""

    name: str
    compute_capability: str
    cuda: str  # the newest CUDA that the driver offers


class Stream(Protocol):
    """Work in order; `handle` is what an SDK wants."""

    @property
    def handle(self) -> int: ...

    def synchronise(self) -> None: ...

    def time_ms(self, work: Work) -> float:
        """Between two events around what `work` puts on this stream; waits for its end."""
        ...

    def capture(self, work: Work, /) -> Work:
        """What launches, as one graph, all that `work` puts on this stream."""
        ...

    def close(self) -> None: ...


class Device(Protocol):
    """One GPU with its primary context current in this thread."""

    gpu: Gpu

    def allocate(self, size_bytes: int) -> int:
        """A device pointer."""
        ...

    def free(self, pointer: int) -> None: ...

    def upload(self, pointer: int, array: np.ndarray) -> None: ...

    def download(self, array: np.ndarray, pointer: int) -> None: ...

    def stream(self) -> Stream: ...


@cache
def open_device(index: int, *, graphs: bool = False) -> Device:
    """The GPU of that number, kept for the life of the process; pycuda cannot record graphs."""
    binding = import_module(f"runtimes.{_binding(graphs)}")
    count = binding.count()
    if not 0 <= index < count:
        raise RuntimeUnavailable(f"there is no GPU {index} here; CUDA sees {count}")
    return binding.open_device(index)


def count() -> int:
    """How many GPUs CUDA sees."""
    return import_module(f"runtimes.{_binding(graphs=False)}").count()


def _binding(graphs: bool) -> str:
    reasons = []
    for name in (CUDA_PYTHON,) if graphs else (PYCUDA, CUDA_PYTHON):
        try:
            import_module(f"runtimes.{name}")
        except ImportError as e:
            reasons.append(str(e))
        else:
            return name
    if graphs:
        raise RuntimeUnavailable(
            f"CUDA graphs need cuda-python, pycuda has none: pip install cuda-bindings "
            f"({'; '.join(reasons)})"
        )
    raise RuntimeUnavailable(f"no binding of CUDA is here ({'; '.join(reasons)}): {INSTALL}")
