"""A datacentre GPU's own account of itself, through NVML by NVIDIA's binding (nvidia-ml-py).

Every fact is asked for alone, since a GPU answers some questions and not others: `NotSupported`
becomes null with NVML's own words. Throttle reasons are those that hold the clocks below what was
asked for; an idle GPU and a clock chosen by its owner are none. The violation counters (ns) catch
what began and ended inside a block. Locked clocks cannot be read back from NVML: the clock of each
block is kept, and one that falls below the highest seen disturbs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

from profiles.readings import Reading, Told, Value

INSTALL = "pip install nvidia-ml-py"
THROTTLES = {
    "nvmlClocksEventReasonSwPowerCap": "power cap",
    "nvmlClocksEventReasonHwSlowdown": "hardware slowdown",
    "nvmlClocksEventReasonSwThermalSlowdown": "thermal slowdown",
    "nvmlClocksEventReasonHwThermalSlowdown": "hardware thermal slowdown",
    "nvmlClocksEventReasonHwPowerBrakeSlowdown": "power brake",
}
VIOLATIONS = {
    "NVML_PERF_POLICY_POWER": "held down for power",
    "NVML_PERF_POLICY_THERMAL": "held down for heat",
}
SWITCH = {0: "off", 1: "on"}


class Gpu:
    """The GPU that CUDA calls `index`; without NVML every fact is null for the same reason."""

    def __init__(self, index: int = 0):
        self.nvml: Any = None
        self.handle: Any = None
        self.absent = self._open(index)

    def _open(self, index: int) -> str | None:
        """Why there is no GPU to ask, or None."""
        try:
            self.nvml = import_module("pynvml")
        except ModuleNotFoundError:
            return f"NVML's binding is not installed: {INSTALL}"
        try:
            self.nvml.nvmlInit()
            self.handle = self._chosen(index)
        except self.nvml.NVMLError as e:
            return f"NVML: {e}"
        return None if self.handle is not None else (
            "CUDA numbers unlike GPUs by their speed and NVML by their slot, so it is not known "
            f"which is {index}: export CUDA_DEVICE_ORDER=PCI_BUS_ID"
        )  # fmt: skip

    def _chosen(self, index: int) -> Any:
        """NVML's handle of CUDA's number, or None where the two orders may differ."""
        nvml = self.nvml
        visible = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
        wanted = visible[index].strip() if index < len(visible) else str(index)
        if not wanted.isdigit():
            return nvml.nvmlDeviceGetHandleByUUID(wanted)
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        alike = len({nvml.nvmlDeviceGetName(handle) for handle in handles}) <= 1
        if alike or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":
            return nvml.nvmlDeviceGetHandleByIndex(int(wanted))
        return None

    def state(self) -> Told:
        n, h = self.nvml, self.handle
        return self._asked({
            "gpu_name": lambda: n.nvmlDeviceGetName(h),
            "gpu_uuid": lambda: n.nvmlDeviceGetUUID(h),
            "gpu_driver": lambda: n.nvmlSystemGetDriverVersion(),
            "gpu_vbios": lambda: n.nvmlDeviceGetVbiosVersion(h),
            "gpu_power_limit_mw": lambda: n.nvmlDeviceGetEnforcedPowerLimit(h),
            "gpu_clock_max_mhz": lambda: n.nvmlDeviceGetMaxClockInfo(h, n.NVML_CLOCK_SM),
            "gpu_memory_clock_max_mhz": lambda: n.nvmlDeviceGetMaxClockInfo(h, n.NVML_CLOCK_MEM),
            "gpu_ecc": lambda: SWITCH[n.nvmlDeviceGetEccMode(h)[0]],
            "gpu_mig": lambda: SWITCH[n.nvmlDeviceGetMigMode(h)[0]],
            "gpu_persistence": lambda: SWITCH[n.nvmlDeviceGetPersistenceMode(h)],
            "gpu_other_processes": self._others,
        })  # fmt: skip

    def reading(self) -> Reading:
        if self.absent:
            return Reading(self._asked({"gpu_clock_mhz": lambda: None}))
        n, h = self.nvml, self.handle
        told = self._asked({
            "gpu_clock_mhz": lambda: n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_SM),
            "gpu_memory_clock_mhz": lambda: n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_MEM),
            "gpu_temperature_c": lambda: n.nvmlDeviceGetTemperature(h, n.NVML_TEMPERATURE_GPU),
            "gpu_power_mw": lambda: n.nvmlDeviceGetPowerUsage(h),
            "gpu_event_reasons": lambda: n.nvmlDeviceGetCurrentClocksEventReasons(h),
            "gpu_other_processes": self._others,
            **{name: self._violation(policy) for policy, name in VIOLATIONS.items()},
        })  # fmt: skip
        reasons = told.facts["gpu_event_reasons"]
        clock = told.facts["gpu_clock_mhz"]
        return Reading(
            told,
            counts={
                name: count
                for name in VIOLATIONS.values()
                if isinstance(count := told.facts[name], int)
            },
            throttled=() if not isinstance(reasons, int) else tuple(
                name for flag, name in THROTTLES.items() if reasons & getattr(n, flag)
            ),
            clock=clock if isinstance(clock, int) else None,
        )  # fmt: skip

    def _violation(self, policy: str) -> Callable[[], int]:
        """Nanoseconds since the driver was loaded in which that policy held the clocks down."""
        n, h = self.nvml, self.handle
        return lambda: n.nvmlDeviceGetViolationStatus(h, getattr(n, policy)).violationTime

    def _others(self) -> int:
        """Compute processes besides this one; in a container's PID namespace it is one of them."""
        pids = [one.pid for one in self.nvml.nvmlDeviceGetComputeRunningProcesses(self.handle)]
        return len([pid for pid in pids if pid != os.getpid()])

    def _asked(self, questions: dict[str, Callable[[], Value]]) -> Told:
        facts: dict[str, Value] = {}
        missing: dict[str, str] = {}
        for name, ask in questions.items():
            facts[name] = None
            if self.absent:
                missing[name] = self.absent
                continue
            try:
                facts[name] = ask()
            except self.nvml.NVMLError as e:
                missing[name] = f"NVML: {e}"
            except AttributeError as e:  # a release of the binding before NVML 12.535
                missing[name] = f"{e}: {INSTALL} --upgrade"
        return Told(facts, missing)
