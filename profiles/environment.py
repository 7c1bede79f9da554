"""The fingerprint of a host: what a number depends on besides the network.

What cannot be read is null with a reason, never a zero and never left out.
"""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass, field
from importlib import metadata

from profiles import device as devices
from profiles.host import cgroup_folder, read_text

CPU = "/sys/devices/system/cpu"
VARIABLES = ("OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "ORT_", "OV_", "OPENVINO_", "CUDA_",
             "TRT_", "LD_PRELOAD", "MALLOC_", "SHOAL_")  # fmt: skip
PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "pycuda",
            "nvidia-ml-py", "jetson-stats")  # fmt: skip
# Numbers compare in absolute terms only between hosts that agree in these.
DECISIVE = ("machine", "cpu_model", "microcode", "cores", "smt", "governor", "turbo", "kernel",
            "cgroup_quota", "numa_nodes")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Facts by name; a fact that is None has its reason in `missing`."""

    facts: dict[str, str | int | None]
    missing: dict[str, str] = field(default_factory=dict)

    def difference(self, other: Fingerprint) -> tuple[str, ...]:
        """The decisive facts in which two hosts differ, each with both values."""
        return tuple(
            f"{name}: {self.facts.get(name)} and {other.facts.get(name)}"
            for name in (*DECISIVE, *devices.DECISIVE)
            if self.facts.get(name) != other.facts.get(name)
        )

    def asked(self, **wishes: str | None) -> Fingerprint:
        """With what the target file wants of the device, so that whoever judges can compare."""
        wanted = {f"asked {name}": wish for name, wish in wishes.items() if wish is not None}
        return Fingerprint({**self.facts, **wanted}, self.missing)

    def unmet(self) -> tuple[str, ...]:
        """How the device was not as it was asked to be."""
        named = {name.removeprefix("asked "): value for name, value in self.facts.items()
                 if name.startswith("asked ")}  # fmt: skip
        return devices.unmet(named, self.facts)


def fingerprint(device: devices.Device | None = None) -> Fingerprint:
    """Read this host, and the device that computes where it is another than the CPU."""
    facts: dict[str, str | int | None] = {
        "machine": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "libc": " ".join(platform.libc_ver()) or None,
        "cores": os.cpu_count(),
        "cores_allowed": ",".join(str(core) for core in sorted(os.sched_getaffinity(0))),
        "cgroup_quota": read_text(f"{cgroup_folder()}/cpu.max"),
        "hash_seed": os.environ.get("PYTHONHASHSEED"),
        **_cpu(),
        **_packages(),
        **{
            f"env {name}": value
            for name, value in sorted(os.environ.items())
            if name.startswith(VARIABLES)
        },
    }
    missing = {name: REASONS[name] for name, value in facts.items() if value is None}
    if device is None:
        return Fingerprint(facts, missing)
    told = device.state()
    return Fingerprint({**facts, **told.facts}, {**missing, **told.missing})


REASONS = {
    "cpu_model": "/proc/cpuinfo names no model",
    "microcode": "/proc/cpuinfo has no microcode line",
    "governor": f"{CPU}/cpu0/cpufreq is not there (a virtual machine, or no frequency driver)",
    "turbo": f"neither {CPU}/cpufreq/boost nor {CPU}/intel_pstate/no_turbo is there",
    "smt": f"{CPU}/smt/active is not there",
    "isolated_cores": f"{CPU}/isolated is empty or not there",
    "numa_nodes": "/sys/devices/system/node/online is not there",
    "hypervisor": "/sys/class/dmi/id/sys_vendor is not there",
    "cgroup_quota": "no cpu.max in this process's cgroup: no quota, or cgroup version 1",
    "hash_seed": "PYTHONHASHSEED is not set",
    "libc": "platform.libc_ver() does not know it",
    "cores": "os.cpu_count() does not know",
    "load": "/proc/loadavg is not there",
    "pressure": "/proc/pressure/cpu is not there (kernel without PSI)",
}


def _cpu() -> dict[str, str | int | None]:
    turbo = read_text(f"{CPU}/cpufreq/boost")
    no_turbo = read_text(f"{CPU}/intel_pstate/no_turbo")
    if turbo is None and no_turbo is not None:
        turbo = "0" if no_turbo == "1" else "1"
    load = read_text("/proc/loadavg")
    pressure = read_text("/proc/pressure/cpu")
    return {
        "cpu_model": _cpuinfo("model name", "Processor", "Model"),
        "microcode": _cpuinfo("microcode"),
        "governor": read_text(f"{CPU}/cpu0/cpufreq/scaling_governor"),
        "turbo": turbo,
        "smt": read_text(f"{CPU}/smt/active"),
        "isolated_cores": read_text(f"{CPU}/isolated") or None,
        "numa_nodes": read_text("/sys/devices/system/node/online"),
        "hypervisor": read_text("/sys/class/dmi/id/sys_vendor"),
        "load": load.split()[0] if load else None,
        "pressure": pressure.splitlines()[0] if pressure else None,
    }


def _cpuinfo(*names: str) -> str | None:
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return None


def _packages() -> dict[str, str | int | None]:
    found: dict[str, str | int | None] = {}
    for name in PACKAGES:
        try:
            found[f"package {name}"] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
