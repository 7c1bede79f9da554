"""CUDA through NVIDIA's cuda-python: every call answers (status, values...)."""

# Most machines that check types have no GPU, hence not this SDK either.
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

import cuda.bindings.driver as driver
import numpy as np

from runtimes.cuda import Gpu, Stream, Work
from runtimes.errors import RuntimeUnavailable

NAME_BYTES = 256


class CudaPythonStream:
    def __init__(self):
        self._stream = checked(driver.cuStreamCreate(0))
        self._before = checked(driver.cuEventCreate(0))
        self._after = checked(driver.cuEventCreate(0))
        self._graphs: list[Any] = []

    @property
    def handle(self) -> int:
        return int(self._stream)

    def synchronise(self) -> None:
        checked(driver.cuStreamSynchronize(self._stream))

    def time_ms(self, work: Work) -> float:
        checked(driver.cuEventRecord(self._before, self._stream))
        work()
        checked(driver.cuEventRecord(self._after, self._stream))
        checked(driver.cuEventSynchronize(self._after))
        return checked(driver.cuEventElapsedTime(self._before, self._after))

    def capture(self, work: Work, /) -> Work:
        relaxed = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        checked(driver.cuStreamBeginCapture(self._stream, relaxed))
        try:
            work()
        finally:
            graph = checked(driver.cuStreamEndCapture(self._stream))
        ready = checked(driver.cuGraphInstantiate(graph, 0))
        checked(driver.cuGraphDestroy(graph))
        self._graphs.append(ready)
        return lambda: checked(driver.cuGraphLaunch(ready, self._stream))

    def close(self) -> None:
        for graph in self._graphs:
            checked(driver.cuGraphExecDestroy(graph))
        checked(driver.cuEventDestroy(self._before))
        checked(driver.cuEventDestroy(self._after))
        checked(driver.cuStreamDestroy(self._stream))


class CudaPythonDevice:
    def __init__(self, index: int):
        chosen = checked(driver.cuDeviceGet(index))
        checked(driver.cuCtxSetCurrent(checked(driver.cuDevicePrimaryCtxRetain(chosen))))
        kinds = driver.CUdevice_attribute
        major, minor = (
            checked(driver.cuDeviceGetAttribute(kind, chosen))
            for kind in (
                kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        )
        name = checked(driver.cuDeviceGetName(NAME_BYTES, chosen)).split(b"\0")[0].decode()
        offered = checked(driver.cuDriverGetVersion())
        self.gpu = Gpu(name, f"{major}.{minor}", f"{offered // 1000}.{offered % 1000 // 10}")

    def allocate(self, size_bytes: int) -> int:
        return int(checked(driver.cuMemAlloc(size_bytes)))

    def free(self, pointer: int) -> None:
        checked(driver.cuMemFree(pointer))

    def upload(self, pointer: int, array: np.ndarray) -> None:
        source = np.ascontiguousarray(array)
        checked(driver.cuMemcpyHtoD(pointer, source.ctypes.data, source.nbytes))

    def download(self, array: np.ndarray, pointer: int) -> None:
        checked(driver.cuMemcpyDtoH(array.ctypes.data, pointer, array.nbytes))

    def stream(self) -> Stream:
        return CudaPythonStream()


def count() -> int:
    try:
        checked(driver.cuInit(0))
        return checked(driver.cuDeviceGetCount())
    except RuntimeError as e:  # no driver library, or one without a device
        raise RuntimeUnavailable(f"CUDA does not start here: {e}") from e


def open_device(index: int) -> CudaPythonDevice:
    return CudaPythonDevice(index)


def checked(answer: tuple[Any, ...]) -> Any:
    """The value of an answer, or an error by CUDA's own name."""
    status, *values = answer
    if status != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"CUDA answered {status.name}")
    return values[0] if values else None
