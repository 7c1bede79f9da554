"""One file, one device: `profiles/targets/<name>.toml`, or the user's own from $SHOAL_TARGETS."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from runtimes.base import Setting
from runtimes.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHIPPED = Path(__file__).parent / "targets"
ENVIRONMENT = "SHOAL_TARGETS"
CLOCKS = (None, "locked", "jetson_clocks")


@dataclass(frozen=True, slots=True)
class Target:
    """A device, how it is reached, and what runs on it."""

    name: str
    runtime: str
    description: str = ""
    transport: str = "local"
    host: str | None = None
    python: str | None = None  # what has the runtime there; None: this one, by ssh python3
    device: str = "cpu"
    threads: int = 1
    batch: int = 1
    cores: tuple[int, ...] | None = None  # None: the idlest ones, chosen before each round
    power_mode: str | None = None
    clocks: str | None = None
    budget: str | None = None
    settings: Mapping[str, Setting] = field(default_factory=dict)  # the runtime's own fields

    def __post_init__(self) -> None:
        if self.transport not in ("local", "ssh"):
            raise InputError(f"target {self.name!r}: transport is local or ssh, not "
                             f"{self.transport!r}")  # fmt: skip
        if self.transport == "ssh" and not self.host:
            raise InputError(f'target {self.name!r}: transport ssh needs host = "<ssh alias>"')
        if self.clocks not in CLOCKS:
            raise InputError(f"target {self.name!r}: clocks is one of "
                             f"{', '.join(filter(None, CLOCKS))}, not {self.clocks!r}")  # fmt: skip
        if self.host is not None and (self.host.startswith("-") or self.host != self.host.strip()):
            raise InputError(f"target {self.name!r}: host is a name that ssh knows, not "
                             f"{self.host!r}")  # fmt: skip
        if self.threads < 1 or self.batch < 1:
            raise InputError(f"target {self.name!r}: threads and batch are at least 1, not "
                             f"{self.threads} and {self.batch}")  # fmt: skip
        if self.cores is not None and len(self.cores) < self.threads:
            raise InputError(f"target {self.name!r}: {self.threads} threads need as many cores, "
                             f"cores = {list(self.cores)}")  # fmt: skip


def target_names(*extra: Path) -> tuple[str, ...]:
    """Every known target, the user's own included."""
    found = (path for folder in _folders(extra) for path in folder.glob("*.toml"))
    return tuple(sorted({path.stem for path in found if _names_a_runtime(path)}))


def _names_a_runtime(path: Path) -> bool:
    """A recipe may lie in the same folder as the user's targets."""
    try:
        return "runtime" in tomllib.loads(path.read_text())
    except (OSError, ValueError):
        return True  # broken, which whoever asks for it is told


def find_target(name: str, *extra: Path) -> Target:
    """The target of that name; the user's own folders win over the shipped one."""
    for folder in _folders(extra):
        path = folder / f"{name}.toml"
        if path.is_file() and path.stem == name:
            return read_target(path)
    known = target_names(*extra)
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InputError(
        f"no target named {name!r}; there are: {', '.join(known)}{hint} "
        f"(your own: a <name>.toml in a folder named by ${ENVIRONMENT})"
    )


def read_target(path: Path) -> Target:
    """The target that the file describes; unknown keys are refused."""
    try:
        settings = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise InputError(f"{path} is not TOML: {e}") from e
    return _target(path, settings)


def _target(path: Path, settings: Mapping[str, Any]) -> Target:
    known = {one.name: one for one in fields(Target) if one.name != "name"}
    for key in settings:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"{path}: unknown key {key!r}{hint}; known: {', '.join(known)}")
    for key, one in known.items():
        if key not in settings:
            if one.default is MISSING and one.default_factory is MISSING:
                raise InputError(f"{path}: key {key!r} is missing")
            continue
        wanted = {"threads": int, "batch": int, "cores": list, "settings": dict}.get(key, str)
        if type(settings[key]) is not wanted:
            raise InputError(f"{path}: {key} is {settings[key]!r}, which is no {wanted.__name__}")
    values = dict(settings)
    if "cores" in values:
        values["cores"] = tuple(values["cores"])
    return Target(name=path.stem, **values)


def _folders(extra: tuple[Path, ...]) -> tuple[Path, ...]:
    """Searched in this order."""
    own = [Path(part) for part in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if part]
    return (*extra, *own, SHIPPED)
