"""CUDA through pycuda."""

# Most machines that check types have no GPU, hence not this SDK either.
# pyright: reportMissingImports=false

from __future__ import annotations

import atexit

import numpy as np
import pycuda.driver as driver

from runtimes.cuda import Gpu, Stream, Work
from runtimes.errors import RuntimeUnavailable


class PycudaStream:
    def __init__(self):
        self._stream = driver.Stream()
        self._before, self._after = driver.Event(), driver.Event()

    @property
    def handle(self) -> int:
        return self._stream.handle

    def synchronise(self) -> None:
        self._stream.synchronize()

    def time_ms(self, work: Work) -> float:
        self._before.record(self._stream)
        work()
        self._after.record(self._stream)
        self._after.synchronize()
        return self._before.time_till(self._after)

    def capture(self, _work: Work, /) -> Work:
        raise RuntimeUnavailable("pycuda records no CUDA graph: pip install cuda-bindings")

    def close(self) -> None:
        del self._stream, self._before, self._after


class PycudaDevice:
    def __init__(self, index: int):
        chosen = driver.Device(index)
        self._context = chosen.retain_primary_context()
        self._context.push()
        atexit.register(self._leave)  # pycuda aborts a process that leaves its context current
        major, minor = chosen.compute_capability()
        self.gpu = Gpu(chosen.name(), f"{major}.{minor}", version(driver.get_driver_version()))
        self._allocations: dict[int, driver.DeviceAllocation] = {}

    def _leave(self) -> None:
        self._allocations.clear()
        driver.Context.pop()
        self._context.detach()

    def allocate(self, size_bytes: int) -> int:
        allocation = driver.mem_alloc(size_bytes)
        self._allocations[int(allocation)] = allocation
        return int(allocation)

    def free(self, pointer: int) -> None:
        self._allocations.pop(pointer).free()

    def upload(self, pointer: int, array: np.ndarray) -> None:
        driver.memcpy_htod(pointer, np.ascontiguousarray(array))

    def download(self, array: np.ndarray, pointer: int) -> None:
        driver.memcpy_dtoh(array, pointer)

    def stream(self) -> Stream:
        return PycudaStream()


def count() -> int:
    try:
        driver.init()
        return driver.Device.count()
    except driver.Error as e:
        raise RuntimeUnavailable(f"CUDA does not start here: {e}") from e


def open_device(index: int) -> PycudaDevice:
    return PycudaDevice(index)


def version(number: int) -> str:
    """12060 is CUDA 12.6."""
    return f"{number // 1000}.{number % 1000 // 10}"
