"""NVML's C library as a Python object, below NVIDIA's own binding.

The binding (nvidia-ml-py) is the real one: its names, its arguments, its conversions and its
errors. Only the shared library that it would load is replaced. A function that is not answered
for is one that the driver does not have, which the binding calls FunctionNotFound.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import pynvml
import pytest


class Fails:
    """An NVML error code for an answer."""

    def __init__(self, code: int):
        self.code = code


NOT_SUPPORTED = Fails(pynvml.NVML_ERROR_NOT_SUPPORTED)


class FakeLibrary:
    """`answers` by C function: the values of its out parameters, an error, or a function."""

    def __init__(self, answers: dict[str, Any]):
        self.answers = {"nvmlInitWithFlags": (), "nvmlDeviceGetHandleByUUID": (), **answers}
        self.called: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        if name not in self.answers:
            raise AttributeError(name)

        def call(*args: Any) -> int:
            self.called.append(name)
            answer = self.answers[name]
            if isinstance(answer, Fails):
                return answer.code
            if not isinstance(answer, tuple):
                return answer(*args)
            outs = [_out(one) for one in args if _out(one) is not None]
            for out, value in zip(outs, answer, strict=False):
                out.value = value
            return pynvml.NVML_SUCCESS

        return call


def _out(argument: Any) -> Any:
    """The variable behind a pointer, or the buffer."""
    if isinstance(argument, ctypes.Array):
        return argument
    return getattr(argument, "_obj", None)


def processes(*pids: int) -> Callable[..., int]:
    def answer(_handle: Any, count: Any, found: Any) -> int:
        count._obj.value = len(pids)
        if found is None:
            return pynvml.NVML_ERROR_INSUFFICIENT_SIZE if pids else pynvml.NVML_SUCCESS
        for index, pid in enumerate(pids):
            found[index].pid = pid
        return pynvml.NVML_SUCCESS

    return answer


def violations(power_ns: int, thermal_ns: int) -> Callable[..., int]:
    def answer(_handle: Any, policy: Any, time: Any) -> int:
        power = policy.value == pynvml.NVML_PERF_POLICY_POWER
        time._obj.violationTime = power_ns if power else thermal_ns
        return pynvml.NVML_SUCCESS

    return answer


# What an A100 PCIe 40 GB might say; the values are made up, the functions and units are NVML's.
A100: dict[str, Any] = {
    "nvmlDeviceGetCount_v2": (1,),
    "nvmlDeviceGetHandleByIndex_v2": (),
    "nvmlSystemGetDriverVersion": (b"580.82.07",),
    "nvmlDeviceGetName": (b"NVIDIA A100-PCIE-40GB",),
    "nvmlDeviceGetUUID": (b"GPU-5f0c0000-0000-0000-0000-000000000001",),
    "nvmlDeviceGetVbiosVersion": (b"92.00.25.00.08",),
    "nvmlDeviceGetEnforcedPowerLimit": (250000,),
    "nvmlDeviceGetMaxClockInfo": (1410,),
    "nvmlDeviceGetClockInfo": (1395,),
    "nvmlDeviceGetEccMode": (1, 1),
    "nvmlDeviceGetMigMode": (0, 0),
    "nvmlDeviceGetPersistenceMode": (1,),
    "nvmlDeviceGetTemperature": (41,),
    "nvmlDeviceGetPowerUsage": (61000,),
    "nvmlDeviceGetCurrentClocksEventReasons": (pynvml.nvmlClocksEventReasonNone,),
    "nvmlDeviceGetComputeRunningProcesses_v3": processes(),
    "nvmlDeviceGetViolationStatus": violations(0, 0),
}


def install(patch: pytest.MonkeyPatch, **changed: Any) -> FakeLibrary:
    """An A100 with some answers changed; None takes the function out of the driver."""
    answers = {name: answer for name, answer in {**A100, **changed}.items() if answer is not None}
    library = FakeLibrary(answers)
    patch.setattr(pynvml, "nvmlLib", library)
    patch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    return library
