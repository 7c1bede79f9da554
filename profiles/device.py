"""The state of what computes, where that is more than a CPU: an NVIDIA GPU, or a Jetson.

The facts go into the fingerprint; a reading before and one after a block tell what happened in
between. What a device does not tell is null with the reason it gave, never a zero and never a
pass. On a plain CPU there is no such device, and nothing is read at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from profiles import jetson, nvml
from profiles.readings import Reading, Told, Value

CLOCK_SHARE = 0.75  # of the highest clock that this process has seen; a block below it is slowed
CLOCK_MOVES = 1.02  # highest over lowest, past which a reader is told
NVIDIA = ("gpu", "cuda", "tensorrt", "dla")  # device names of the runtimes that compute there
# Numbers compare in absolute terms only between devices that agree in these.
DECISIVE = ("board", "power_mode", "clocks", "gpu_name", "gpu_driver", "gpu_power_limit_mw",
            "gpu_ecc", "gpu_mig")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """What a device did during a block, to be stored beside the block's samples."""

    facts: Mapping[str, Value]  # at the block's end
    missing: Mapping[str, str]
    events: Mapping[str, int]  # how many there were
    throttled: tuple[str, ...]  # at either end
    clock_share: float | None  # of the highest clock seen

    def disturbances(self) -> tuple[str, ...]:
        """Why a block on such a device is no good evidence; empty when it is."""
        slowed = self.clock_share is not None and self.clock_share < CLOCK_SHARE
        return (
            *self.throttled,
            *(name for name, count in self.events.items() if count),
            *(["the device's clock dropped"] if slowed else []),
        )


class Device(Protocol):
    """`state` is read once for the fingerprint, `reading` twice for a block."""

    def state(self) -> Told: ...

    def reading(self) -> Reading: ...


class Watch:
    """A device during one process's measurements."""

    def __init__(self, device: Device):
        self.device = device
        self.highest = 0

    def reading(self) -> Reading:
        now = self.device.reading()
        self.highest = max(self.highest, now.clock or 0)
        return now

    def between(self, before: Reading, after: Reading) -> Change:
        """A counter that is missing on one side tells nothing."""
        grown = {
            name: max(count - before.counts[name], 0)
            for name, count in after.counts.items()
            if name in before.counts
        }
        share = after.clock / self.highest if after.clock and self.highest else None
        throttled = tuple(dict.fromkeys((*before.throttled, *after.throttled)))
        return Change(after.told.facts, after.told.missing, grown, throttled, share)


def find_device(runtime: str, device: str) -> Device | None:
    """What to watch while that runtime computes there; None where it is the host's CPU alone."""
    if jetson.is_jetson():
        return jetson.Jetson()
    kind, _, index = device.partition(":")
    if runtime == "ov" or kind not in NVIDIA:  # OpenVINO's GPU is Intel's
        return None
    return nvml.Gpu(int(index) if index.isdigit() else 0)


def own_device() -> Device | None:
    """This machine's, for an account of it: a Jetson, or the first GPU where the kernel has one."""
    driver = Path("/proc/driver/nvidia/version").exists()
    return find_device("trt", "gpu" if driver else "cpu")


def clock_note(surroundings: Iterable[Mapping[str, Any]], *, locked: bool) -> str | None:
    """What the GPU's clock did over the blocks, when it moved.

    NVML does not tell whether a clock is locked, so the blocks' own clocks are the only witness.
    """
    facts = [one.get("device", {}).get("facts", {}) for one in surroundings]
    told = [int(one["gpu_clock_mhz"]) for one in facts if one.get("gpu_clock_mhz")]
    if not told or max(told) <= CLOCK_MOVES * min(told):
        return None
    moved = f"the GPU's clock was between {min(told)} and {max(told)} MHz over the blocks"
    wish = ", though the target file has it locked" if locked else ""
    return f"{moved}{wish}: sudo nvidia-smi --lock-gpu-clocks=<MHz> keeps it"


def unmet(asked: Mapping[str, Value], facts: Mapping[str, Value]) -> tuple[str, ...]:
    """How the device is not as its target file has it: `power_mode` and `clocks`.

    Another mode or free clocks give other numbers, so a device that cannot tell does not pass.
    """
    wrong = []
    mode = asked.get("power_mode")
    if mode and facts.get("power_mode") != mode:
        found = facts.get("power_mode") or "not known"
        wrong.append(f"the power mode is {found}, not {mode}: sudo nvpmodel -m <its number>")
    clocks = asked.get("clocks")
    if clocks == "jetson_clocks" and facts.get("clocks") != "locked":
        found = facts.get("clocks") or "not known to be locked"
        wrong.append(f"the clocks are {found}: sudo jetson_clocks, after nvpmodel")
    return tuple(wrong)
