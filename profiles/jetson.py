"""A Jetson's state: power mode, clocks, temperatures, rails, over-current events.

NVML answers NotSupported here, so the kernel is asked: devfreq (Hz), cpufreq (kHz), thermal zones
(thousandths of a degree), hwmon (mV, mA) and the over-current counters. `nvpmodel -q` tells the
power mode; `jetson_clocks --show` and the memory's clock need root, which is where jtop
(jetson-stats) helps, whose service has it. `jetson_clocks` locks to the maxima of the current
power mode, so both are facts.

A zone whose engine is switched off cannot be read (EAGAIN), and that is what is recorded.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from profiles.host import read_number, read_text
from profiles.jetson_text import parse_board, parse_clocks, parse_power_mode, parse_release
from profiles.readings import Reading, Told, Value

# what jtop may tell: the power mode, the memory's clocks
Jtop = Callable[[], "dict[str, Value] | str"]
Command = Callable[[Sequence[str]], "str | OSError"]
MEMORY = "sys/kernel/debug/bpmp/debug/clk/emc"  # readable by root alone
COMMAND_S = 10
UNTOLD = {
    "board": "/proc/device-tree/model is not there",
    "l4t": "/etc/nv_tegra_release is not there or names no release",
    "clocks": "the range of the GPU's or of a core's clock is not known",
}
NO_CLOCK = "the kernel offers no such clock under /sys"
OVER_CURRENT = "over-current throttling"


def is_jetson(root: Path = Path("/")) -> bool:
    """By the device tree, which a container sees too."""
    return "nvidia,tegra" in (read_text(f"{root}/proc/device-tree/compatible") or "")


def run_command(command: Sequence[str]) -> str | OSError:
    """What it prints, or why it does not."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S)
    except OSError as e:
        return e
    except subprocess.TimeoutExpired:
        return OSError(f"{command[0]} did not answer within {COMMAND_S} s")
    said = (done.stdout + done.stderr).strip()
    return done.stdout if done.returncode == 0 else OSError(said or f"exit code {done.returncode}")


def ask_jtop() -> dict[str, Value] | str:
    """The facts that only root can read, or why the service does not tell them."""
    try:
        jtop = import_module("jtop")
    except ModuleNotFoundError:
        return "jtop is not installed: sudo pip install jetson-stats"
    try:
        with jtop.jtop() as board:
            if not board.ok():
                return "jtop: its service sends nothing"
            memory: Any = board.memory.get("EMC", {})
            return {
                "power_mode": str(board.nvpmodel) if board.nvpmodel else None,
                "memory_clock_min_hz": _kilo(memory.get("min")),
                "memory_clock_max_hz": _kilo(memory.get("max")),
                "memory_clock_hz": _kilo(memory.get("cur")),
            }
    except jtop.JtopException as e:
        return f"jtop: {' '.join(str(e).split())}"


class Jetson:
    """This board; the root and the commands can be others' in tests."""

    def __init__(self, root: Path = Path("/"), run: Command = run_command, jtop: Jtop = ask_jtop):
        self.root, self.run, self.jtop = root, run, jtop

    def state(self) -> Told:
        facts: dict[str, Value] = {
            "board": parse_board(self._text("proc/device-tree/model")),
            "l4t": parse_release(self._text("etc/nv_tegra_release")),
        }
        missing: dict[str, str] = {}
        mode = self.run(["nvpmodel", "-q"])
        facts["power_mode"], facts["power_mode_id"] = (
            parse_power_mode(mode) if isinstance(mode, str) else (None, None)
        )
        shown = self.run(["jetson_clocks", "--show"])
        clocks = parse_clocks(shown if isinstance(shown, str) else "")
        facts.update({**self._gpu_limits(), **self._cpu_limits(), **self._memory()})
        _fill(facts, clocks)
        if None in (facts["power_mode"], facts["memory_clock_hz"]):
            jtop = self.jtop()
            _fill(facts, jtop if isinstance(jtop, dict) else {})
        else:
            jtop = {}
        facts["clocks"] = self._locked(facts)
        told = jtop if isinstance(jtop, str) else ""
        why = {
            "power_mode": _reasons(("nvpmodel -q", mode), told),
            "memory": _reasons(("jetson_clocks --show", shown), told),
        }
        for name, value in facts.items():
            if value is None:
                kind = next((known for known in why if name.startswith(known)), None)
                missing[name] = why[kind] if kind else UNTOLD.get(name, NO_CLOCK)
        return Told(facts, missing)

    def reading(self) -> Reading:
        facts: dict[str, Value] = {"gpu_clock_hz": self._number(self._gpu(), "cur_freq")}
        facts["memory_clock_hz"] = self._memory()["memory_clock_hz"]
        missing = {name: "not readable here" for name, value in facts.items() if value is None}
        for name, path in self._zones():
            try:
                facts[name] = int(path.read_text())
            except (OSError, ValueError) as e:
                facts[name] = None
                missing[name] = getattr(e, "strerror", None) or str(e)
        facts.update(self._rails())
        clock = facts["gpu_clock_hz"]
        return Reading(
            Told(facts, missing),
            counts=self._over_current(),
            throttled=tuple(self._alerts()),
            clock=clock if isinstance(clock, int) else None,
        )

    def _gpu(self) -> str:
        """17000000.gpu on JetPack 6, 17000000.ga10b before, gpu-gpc-0 on Thor."""
        known = sorted((self.root / "sys/class/devfreq").glob("*"))
        names = [one.name for one in known if "gpu" in one.name or "ga10b" in one.name]
        return f"sys/class/devfreq/{names[0]}" if names else "sys/class/devfreq/gpu"

    def _gpu_limits(self) -> dict[str, Value]:
        return {
            "gpu_clock_min_hz": self._number(self._gpu(), "min_freq"),
            "gpu_clock_max_hz": self._number(self._gpu(), "max_freq"),
        }

    def _cpu_limits(self) -> dict[str, Value]:
        """The lowest and the highest over all cores; null as soon as one does not tell."""
        limits = self._core_limits()
        told = limits and all(None not in pair for pair in limits)
        return {
            "cpu_clock_min_khz": min(low for low, _ in limits) if told else None,
            "cpu_clock_max_khz": max(high for _, high in limits) if told else None,
        }

    def _core_limits(self) -> list[tuple[Any, Any]]:
        folders = sorted((self.root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq"))
        names = ("scaling_min_freq", "scaling_max_freq")
        pairs = ([read_number(f"{one}/{name}") for name in names] for one in folders)
        return [(low, high) for low, high in pairs]

    def _locked(self, facts: dict[str, Value]) -> str | None:
        """`locked` when the GPU's and each core's range is one clock; null when not all tell.

        The memory's is not asked for: it is locked by an override that root alone can read.
        """
        pairs = [(facts["gpu_clock_min_hz"], facts["gpu_clock_max_hz"]), *self._core_limits()]
        if len(pairs) == 1 or any(None in pair for pair in pairs):
            return None
        return "locked" if all(low == high for low, high in pairs) else "not locked"

    def _memory(self) -> dict[str, Value]:
        """By the firmware's debugfs, or by devfreq on Thor."""
        debug = {"": "rate", "min_": "min_rate", "max_": "max_rate"}
        devfreq = {"": "cur_freq", "min_": "min_freq", "max_": "max_freq"}
        thor = (self.root / "sys/class/devfreq/bwmgr").is_dir()
        folder, files = ("sys/class/devfreq/bwmgr", devfreq) if thor else (MEMORY, debug)
        return {
            f"memory_clock_{which}hz": self._number(folder, file) for which, file in files.items()
        }

    def _zones(self) -> list[tuple[str, Path]]:
        zones = sorted((self.root / "sys/class/thermal").glob("thermal_zone*"))
        named = ((read_text(f"{zone}/type") or zone.name, zone / "temp") for zone in zones)
        return [(f"{name.replace('-', '_')}_mc", path) for name, path in named]

    def _rails(self) -> dict[str, Value]:
        """Milliwatts of each labelled rail: mV mA / 1000. Channels without a label are none."""
        found: dict[str, Value] = {}
        for chip in sorted((self.root / "sys/class/hwmon").glob("hwmon*")):
            if read_text(f"{chip}/name") not in ("ina3221", "ina238"):
                continue
            for label in sorted(chip.glob("in*_label")):
                channel = label.name.removeprefix("in").removesuffix("_label")
                volts = read_number(f"{chip}/in{channel}_input")
                amperes = read_number(f"{chip}/curr{channel}_input")
                name = read_text(str(label)) or ""
                if name == "NC" or amperes is None:  # nothing connected; the sum of the shunts
                    continue
                found[f"{name}_mw"] = None if volts is None else volts * amperes // 1000
        return found

    def _over_current(self) -> dict[str, int]:
        paths = sorted((self.root / "sys/class/hwmon").glob("hwmon*/oc*_event_cnt"))
        counts = [read_number(str(path)) for path in paths]
        told = [count for count in counts if count is not None]
        return {OVER_CURRENT: sum(told)} if told else {}

    def _alerts(self) -> list[str]:
        """`gpu-throttle-alert` and its like; a fan that turns is no alert."""
        devices = sorted((self.root / "sys/class/thermal").glob("cooling_device*"))
        named = ((read_text(f"{one}/type") or "", one) for one in devices)
        return [
            f"thermal throttling ({name})"
            for name, one in named
            if name.endswith("throttle-alert") and read_number(f"{one}/cur_state")
        ]

    def _text(self, path: str) -> str | None:
        return read_text(str(self.root / path))

    def _number(self, folder: str, file: str) -> int | None:
        return read_number(str(self.root / folder / file))


def _fill(facts: dict[str, Value], others: dict[str, Value]) -> None:
    """Only what is not known yet."""
    facts.update({name: value for name, value in others.items() if facts.get(name) is None})


def _reasons(asked: tuple[str, str | OSError], jtop: str) -> str:
    """Why neither the tool nor jtop told it."""
    tool, said = asked
    why = f"{tool}: {said if isinstance(said, OSError) else 'does not tell it'}"
    return f"{why}; {jtop}" if jtop else why


def _kilo(value: int | None) -> int | None:
    return None if value is None else value * 1000
