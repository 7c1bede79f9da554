"""A GPU made of Python: memory by pointer, streams that run nothing until they are waited for.

Its two bindings are strict stand-ins of pycuda.driver and cuda.bindings.driver. A forgotten
synchronise, a pointer of nobody, a copy past the end, work without a current context or an
allocation never freed is an error here, as on a device it would be a wrong number.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from types import ModuleType
from typing import Any

import numpy as np
from strict_api import new, read_api, strict_module

STEP_MS = 0.25


class GpuError(Exception):
    """What a driver would answer with an error code."""


@dataclass
class Gpu:
    name: str = "Orin"
    capability: tuple[int, int] = (8, 7)
    driver: int = 12060
    devices: int = 1
    dla_cores: int = 0
    memory: dict[int, bytearray] = field(default_factory=dict)
    streams: dict[int, list[Callable[[], None]]] = field(default_factory=dict)
    recording: dict[int, list[Callable[[], None]]] = field(default_factory=dict)
    contexts: int = 0  # how deep the stack of current contexts is
    clock_ms: float = 0.0
    numbers: Any = field(default_factory=lambda: count(0x7F0000000000, 0x1000))

    def need_context(self) -> None:
        if self.contexts < 1:
            raise GpuError("CUDA_ERROR_INVALID_CONTEXT")

    def allocate(self, size: int) -> int:
        self.need_context()
        if size < 1:
            raise GpuError("CUDA_ERROR_INVALID_VALUE")
        pointer = next(self.numbers)
        self.memory[pointer] = bytearray(size)
        return pointer

    def free(self, pointer: int) -> None:
        if pointer not in self.memory:
            raise GpuError("CUDA_ERROR_INVALID_VALUE")
        del self.memory[pointer]

    def at(self, pointer: int, size: int) -> bytearray:
        """The allocation, if it holds exactly that much."""
        self.need_context()
        if pointer not in self.memory or size > len(self.memory[pointer]):
            raise GpuError("CUDA_ERROR_ILLEGAL_ADDRESS")
        return self.memory[pointer]

    def write(self, pointer: int, content: bytes) -> None:
        self.synchronise_all()
        self.at(pointer, len(content))[: len(content)] = content

    def read(self, pointer: int, size: int) -> bytes:
        self.synchronise_all()
        return bytes(self.at(pointer, size)[:size])

    def stream(self) -> int:
        self.need_context()
        handle = next(self.numbers)
        self.streams[handle] = []
        return handle

    def enqueue(self, handle: int, work: Callable[[], None]) -> None:
        self.need_context()
        if handle not in self.streams:
            raise GpuError("CUDA_ERROR_INVALID_HANDLE")
        self.recording.get(handle, self.streams[handle]).append(work)

    def synchronise(self, handle: int) -> None:
        waiting, self.streams[handle] = self.streams[handle], []
        for work in waiting:
            work()
            self.clock_ms += STEP_MS

    def synchronise_all(self) -> None:
        for handle in self.streams:
            self.synchronise(handle)

    @property
    def waiting(self) -> int:
        return sum(len(work) for work in self.streams.values())


def fake_pycuda(gpu: Gpu) -> ModuleType:
    """pycuda.driver 2026.1 on that GPU."""

    def event_time(event: Any) -> float:
        if "at_ms" not in event._state:
            raise GpuError("cuEventElapsedTime failed: device not ready")
        return event._state["at_ms"]

    def record(event: Any, stream: Any) -> Any:
        event._state["stream"] = stream._state["handle"]
        gpu.enqueue(event._state["stream"], lambda: event._state.update(at_ms=gpu.clock_ms))
        return event

    def enter(_context: Any) -> None:
        gpu.contexts += 1

    def leave() -> None:
        gpu.need_context()
        gpu.contexts -= 1

    def allocate(size: int) -> Any:
        return new(driver.DeviceAllocation, pointer=gpu.allocate(size))

    def download(array: np.ndarray, pointer: Any) -> None:
        array[...] = np.frombuffer(gpu.read(int(pointer), array.nbytes), array.dtype).reshape(
            array.shape
        )

    def chosen(_device: Any, index: int) -> None:
        if index >= gpu.devices:
            raise driver.LogicError("cuDeviceGet failed: invalid device ordinal")

    def start() -> None:
        if not gpu.devices:
            raise driver.RuntimeError("cuInit failed: no CUDA-capable device is detected")

    driver = strict_module("pycuda.driver", read_api("pycuda", "2026.1"), {
        "init": start,
        "get_driver_version": lambda: gpu.driver,
        "Device.__init__": chosen,
        "Device.count": lambda: gpu.devices,
        "Device.name": lambda _: gpu.name,
        "Device.compute_capability": lambda _: gpu.capability,
        "Device.retain_primary_context": lambda _: new(driver.Context),
        "Context.push": enter,
        "Context.pop": leave,
        "Context.detach": lambda _: None,
        "Stream.__init__": lambda stream: stream._state.update(handle=gpu.stream()),
        "Stream.synchronize": lambda stream: gpu.synchronise(stream._state["handle"]),
        "Event.record": record,
        "Event.synchronize": lambda event: gpu.synchronise(event._state["stream"]),
        "Event.time_till": lambda event, later: event_time(later) - event_time(event),
        "mem_alloc": allocate,
        "DeviceAllocation.free": lambda allocation: gpu.free(int(allocation)),
        "memcpy_htod": lambda pointer, array: gpu.write(int(pointer), array.tobytes()),
        "memcpy_dtoh": download,
    })  # fmt: skip
    for name in ("Error", "LogicError", "RuntimeError", "MemoryError"):
        bases = (Exception,) if name == "Error" else (driver.Error,)
        setattr(driver, name, type(name, bases, {}))
    driver.DeviceAllocation.__int__ = lambda allocation: allocation._state["pointer"]
    return driver


def fake_cuda_python(gpu: Gpu, version: str) -> ModuleType:
    """cuda.bindings.driver of that version on that GPU: every answer is (status, values...)."""
    graphs: dict[int, list[Callable[[], None]]] = {}
    events: dict[int, dict[str, Any]] = {}

    def answering(act: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
        def answer(*args: Any) -> tuple[Any, ...]:
            try:
                value = act(*args)
            except GpuError as e:
                known = driver.CUresult.__members__
                return (known.get(str(e), driver.CUresult.CUDA_ERROR_INVALID_VALUE),)
            status = driver.CUresult.CUDA_SUCCESS
            return (status,) if value is None else (status, value)

        return answer

    def start(_flags: int) -> None:
        if not gpu.devices:
            raise GpuError("CUDA_ERROR_NO_DEVICE")

    def enter(_context: Any) -> None:
        gpu.contexts = 1

    def attribute(kind: Any, _device: Any) -> int:
        return gpu.capability["MINOR" in kind.name]

    def event(_flags: int) -> int:
        handle = next(gpu.numbers)
        events[handle] = {}
        return handle

    def record(handle: int, stream: int) -> None:
        events[handle]["stream"] = stream
        gpu.enqueue(stream, lambda: events[handle].update(at_ms=gpu.clock_ms))

    def elapsed(before: int, after: int) -> float:
        if "at_ms" not in events[before] or "at_ms" not in events[after]:
            raise GpuError("CUDA_ERROR_NOT_READY")
        return events[after]["at_ms"] - events[before]["at_ms"]

    def begin(stream: int, _mode: Any) -> None:
        gpu.recording[stream] = []

    def end(stream: int) -> int:
        handle = next(gpu.numbers)
        graphs[handle] = gpu.recording.pop(stream)
        return handle

    def instantiate(graph: int, _flags: int) -> int:
        handle = next(gpu.numbers)
        graphs[handle] = list(graphs[graph])
        return handle

    def launch(graph: int, stream: int) -> None:
        for work in graphs[graph]:
            gpu.enqueue(stream, work)

    def forget(graph: int) -> None:
        del graphs[graph]

    def destroy(stream: int) -> None:
        del gpu.streams[stream]

    def erase(event: int) -> None:
        del events[event]

    def download(to: int, pointer: int, size: int) -> None:
        ctypes.memmove(to, gpu.read(pointer, size), size)

    acts: dict[str, Callable[..., Any]] = {
        "cuInit": start,
        "cuDriverGetVersion": lambda: gpu.driver,
        "cuDeviceGetCount": lambda: gpu.devices,
        "cuDeviceGet": lambda index: index,
        "cuDeviceGetName": lambda size, _: gpu.name.encode().ljust(size, b"\0"),
        "cuDeviceGetAttribute": attribute,
        "cuDevicePrimaryCtxRetain": lambda device: ("context", device),
        "cuCtxSetCurrent": enter,
        "cuMemAlloc": gpu.allocate,
        "cuMemFree": gpu.free,
        "cuMemcpyHtoD": lambda to, at, size: gpu.write(to, ctypes.string_at(at, size)),
        "cuMemcpyDtoH": download,
        "cuStreamCreate": lambda _flags: gpu.stream(),
        "cuStreamSynchronize": gpu.synchronise,
        "cuStreamDestroy": destroy,
        "cuEventCreate": event,
        "cuEventRecord": record,
        "cuEventSynchronize": lambda handle: gpu.synchronise(events[handle]["stream"]),
        "cuEventElapsedTime": elapsed,
        "cuEventDestroy": erase,
        "cuStreamBeginCapture": begin,
        "cuStreamEndCapture": end,
        "cuGraphInstantiate": instantiate,
        "cuGraphLaunch": launch,
        "cuGraphDestroy": forget,
        "cuGraphExecDestroy": forget,
    }
    scripted = {name: answering(act) for name, act in acts.items()}
    driver = strict_module("cuda.bindings.driver", read_api("cuda_python", version), scripted)
    return driver
