"""Is every pinned version there for its platform and Python? Asks the package index by pip.

`docker/<image>.txt` begins with the Python, machine and glibc of its image. Only names and versions
are asked for, no package is fetched: no engine is needed, and gigabytes of wheels stay where
they are. A line marked `# source` is compiled in the image, so any platform will do.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

HEADER = re.compile(r"# python (\d+\.\d+), linux (\w+), glibc 2\.(\d+)")
PIN = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)(\s+# source)?")
OLD_NAMES = {"manylinux2014": 17, "manylinux2010": 12, "manylinux1": 5}


@dataclass(frozen=True)
class Pin:
    name: str
    version: str
    python: str
    machine: str
    glibc: int
    source: bool

    def question(self) -> list[str]:
        """pip's arguments."""
        asked = ["index", "versions", self.name, "--python-version", self.python]
        if self.source:
            return asked
        tags = [f"manylinux_2_{minor}" for minor in range(5, self.glibc + 1)]
        tags += [name for name, minor in OLD_NAMES.items() if minor <= self.glibc]
        platforms = (part for tag in tags for part in ("--platform", f"{tag}_{self.machine}"))
        return [*asked, "--only-binary=:all:", "--implementation", "cp", *platforms]


class Unreachable(Exception):
    """pip gives an index that does not answer and a package that it lacks the same words."""


def read_pins(path: Path) -> list[Pin]:
    first, *lines = path.read_text().splitlines()
    header = HEADER.fullmatch(first)
    if header is None:
        raise ValueError(f"{path.name} does not begin with its python, machine and glibc")
    pins = []
    for line in lines:
        pin = PIN.fullmatch(line)
        if pin is None:
            raise ValueError(f"{path.name}: {line!r} is not name==version")
        python, machine, glibc = header.groups()
        pins.append(Pin(pin[1], pin[2], python, machine, int(glibc), bool(pin[3])))
    return pins


def ask_index(pin: Pin) -> list[str]:
    """The versions that the index has for that Python and platform."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *pin.question()]
    answer = subprocess.run(command, capture_output=True, text=True)
    listed = re.search(r"^Available versions: (.*)$", answer.stdout, re.MULTILINE)
    return listed[1].split(", ") if listed else []


def missing(pins: list[Pin], ask: Callable[[Pin], list[str]] = ask_index) -> list[str]:
    """One sentence for each pin that cannot be installed."""
    wrong = []
    for pin in pins:
        there = ask(pin)
        if not there and not ask(replace(pin, name="pip", source=True)):
            raise Unreachable(
                "the package index was not reached, it does not know pip itself: nothing is known "
                f"of {pin.name}=={pin.version}; see that `pip index versions pip` answers, and run "
                "again"
            )
        if pin.version not in there:
            wrong.append(
                f"{pin.name}=={pin.version} is not there for python {pin.python} on {pin.machine}, "
                f"glibc 2.{pin.glibc}; there are: {', '.join(there[:5]) or 'none'}"
            )
    return wrong


if __name__ == "__main__":
    wrong = []
    for path in sorted(Path(__file__).parent.glob("*.txt")):
        pins = read_pins(path)
        try:
            found = missing(pins)
        except Unreachable as e:
            sys.exit(f"{path.name}: {e}")
        print(f"{path.name}: {len(pins) - len(found)} of {len(pins)} pinned versions are there")
        wrong += [f"{path.name}: {reason}" for reason in found]
    sys.exit("\n".join(wrong) or 0)
