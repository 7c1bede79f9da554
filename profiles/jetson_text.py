"""What Jetson's own tools print, read into values; pure functions of the text.

`nvpmodel -q` prints `NV Power Mode: <name>` and the mode's number on a line of its own, between
warnings and, before JetPack 6, the fan's mode. `jetson_clocks --show` prints a line per core, one
for the GPU, one for the memory (EMC) with clocks in kHz for cores and Hz for the others; JetPack 7
has neither `Online=` nor `FreqOverride=` in them.
"""

from __future__ import annotations

import re

Value = str | int | None

MODE = re.compile(r"^\s*NV Power Mode:\s*(\S+)\s*$", re.MULTILINE)
NUMBER = re.compile(r"^\s*(\d+)\s*$", re.MULTILINE)
RELEASE = re.compile(r"# R(\d+) \(release\), REVISION: ([\d.]+)")
EMC = re.compile(r"^EMC MinFreq=(\d+) MaxFreq=(\d+) CurrentFreq=(\d+)", re.MULTILINE)
OVERRIDE = re.compile(r"^EMC .* FreqOverride=(\d+)", re.MULTILINE)


def parse_power_mode(text: str) -> tuple[str | None, int | None]:
    """The name and the number of `nvpmodel -q`; the number follows the name."""
    mode = MODE.search(text)
    if mode is None:
        return None, None
    number = NUMBER.search(text, mode.end())
    return mode[1], int(number[1]) if number else None


def parse_clocks(text: str) -> dict[str, Value]:
    """The memory's clocks of `jetson_clocks --show`, which sysfs keeps from all but root."""
    emc, override = EMC.search(text), OVERRIDE.search(text)
    low, high, now = (int(value) for value in emc.groups()) if emc else (None, None, None)
    return {
        "memory_clock_min_hz": low,
        "memory_clock_max_hz": high,
        "memory_clock_hz": now,
        "memory_clock_override": int(override[1]) if override else None,
    }


def parse_board(text: str | None) -> str | None:
    """The device tree's model, which ends in a NUL."""
    return text.rstrip("\0").strip() or None if text else None


def parse_release(text: str | None) -> str | None:
    """36.4.4 of `/etc/nv_tegra_release`."""
    found = RELEASE.search(text or "")
    return f"{found[1]}.{found[2]}" if found else None
