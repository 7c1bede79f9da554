"""What the host did to us while a block ran: steal, throttling, waiting for the core, clocks.

Counters are cumulative, so two readings make a difference. A file that is not there gives None,
never zero: `Counters` of a container without cgroup files say so.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns, sleep

STEAL_SHARE = 0.05  # of the block's wall time, above which it is disturbed
WAIT_SHARE = 0.1
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Counters:
    """Cumulative readings at one moment."""

    at_ns: int
    steal_ns: int | None
    waited_ns: int | None  # runnable but not running, summed over our threads
    throttled: int | None  # cgroup periods in which we were throttled
    core_throttle: int | None  # thermal throttle events of our cores
    preempted: int
    clock_khz: int | None
    temperature_mc: int | None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What changed between two readings."""

    steal_share: float | None
    wait_share: float | None
    throttled: int | None
    core_throttle: int | None
    preempted: int
    clock_khz: int | None
    temperature_mc: int | None

    def disturbances(self) -> tuple[str, ...]:
        """Why a block in these surroundings is no good evidence; empty when it is."""
        reasons = []
        if self.throttled:
            reasons.append("cgroup throttling")
        if self.core_throttle:
            reasons.append("thermal throttling")
        if self.steal_share is not None and self.steal_share > STEAL_SHARE:
            reasons.append("steal")
        if self.wait_share is not None and self.wait_share > WAIT_SHARE:
            reasons.append("waiting for the core")
        return tuple(reasons)


def read_counters(cores: tuple[int, ...]) -> Counters:
    """Now, for this process on these cores."""
    return Counters(
        at_ns=perf_counter_ns(),
        steal_ns=_steal_ns(cores),
        waited_ns=_waited_ns(),
        throttled=_throttled(),
        core_throttle=_core_throttle(cores),
        preempted=resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw,
        clock_khz=read_number(f"/sys/devices/system/cpu/cpu{cores[0]}/cpufreq/scaling_cur_freq"),
        temperature_mc=read_number("/sys/class/thermal/thermal_zone0/temp"),
    )


def between(before: Counters, after: Counters) -> Surroundings:
    """What the host did from one reading to the next."""
    wall_ns = max(after.at_ns - before.at_ns, 1)
    steal_ns = _grown(before.steal_ns, after.steal_ns)
    if steal_ns is not None and steal_ns <= TICK_NS:  # one tick is the counter's resolution
        steal_ns = 0
    waited_ns = _grown(before.waited_ns, after.waited_ns)
    return Surroundings(
        steal_share=None if steal_ns is None else steal_ns / wall_ns,
        wait_share=None if waited_ns is None else waited_ns / wall_ns,
        throttled=_grown(before.throttled, after.throttled),
        core_throttle=_grown(before.core_throttle, after.core_throttle),
        preempted=after.preempted - before.preempted,
        clock_khz=after.clock_khz,
        temperature_mc=after.temperature_mc,
    )


def idlest_cores(count: int, *, over_s: float = 0.05) -> tuple[int, ...]:
    """The cores that idled most in the last moment, one per physical core while they last."""
    allowed = sorted(os.sched_getaffinity(0))
    before = _idle_ticks()
    sleep(over_s)
    after = _idle_ticks()
    idled = {core: after.get(core, 0) - before.get(core, 0) for core in allowed}
    order = sorted(allowed, key=lambda core: (-idled[core], -core))
    first, rest, seen = [], [], set[str]()
    for core in order:
        siblings = read_text(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
        group = siblings or str(core)
        (rest if group in seen else first).append(core)
        seen.add(group)
    return tuple(sorted((first + rest)[:count]))


def peak_bytes() -> int | None:
    """Peak resident memory of this process; getrusage would report its parent's too."""
    for line in (read_text("/proc/self/status") or "").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def read_text(path: str) -> str | None:
    """The file's text, or None where the kernel does not offer it."""
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def read_number(path: str) -> int | None:
    text = read_text(path)
    return int(text) if text and text.lstrip("-").isdigit() else None


def _grown(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else max(after - before, 0)


def _cpu_lines() -> dict[int, list[str]]:
    lines = (read_text("/proc/stat") or "").splitlines()
    words = (line.split() for line in lines if line.startswith("cpu"))
    return {int(word[0][3:]): word[1:] for word in words if word[0] != "cpu"}


def _idle_ticks() -> dict[int, int]:
    return {core: int(ticks[3]) + int(ticks[4]) for core, ticks in _cpu_lines().items()}


def _steal_ns(cores: tuple[int, ...]) -> int | None:
    lines = _cpu_lines()
    if any(core not in lines or len(lines[core]) < 8 for core in cores):
        return None
    return sum(int(lines[core][7]) for core in cores) * TICK_NS


def _waited_ns() -> int | None:
    waited = 0
    for task in Path("/proc/self/task").glob("*"):
        text = read_text(f"{task}/schedstat")
        if text is None:
            return None
        waited += int(text.split()[1])
    return waited


def _throttled() -> int | None:
    for line in (read_text(f"{cgroup_folder()}/cpu.stat") or "").splitlines():
        if line.startswith("nr_throttled "):
            return int(line.split()[1])
    return None


def cgroup_folder() -> str:
    """This process's cgroup (version 2), or the root's where it cannot be told."""
    for line in (read_text("/proc/self/cgroup") or "").splitlines():
        if line.startswith("0::"):
            return "/sys/fs/cgroup" + line[3:].rstrip("/")
    return "/sys/fs/cgroup"


def _core_throttle(cores: tuple[int, ...]) -> int | None:
    counts = [
        read_number(f"/sys/devices/system/cpu/cpu{core}/thermal_throttle/core_throttle_count")
        for core in cores
    ]
    return None if any(count is None for count in counts) else sum(c for c in counts if c)
