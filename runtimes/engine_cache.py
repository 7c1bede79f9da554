"""Engines already built, and why one of them may not be used.

An engine runs on the SDK, driver and GPU that built it, and is the network and settings it was
built from. Both halves are in its name, `<order>-<place>.engine`, and in full beside it, so that
nothing is loaded that was made for something else, and the reason can be told before loading.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT = "SHOAL_CACHE"

Facts = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Found:
    """An engine, or None with the reason why there is none to use."""

    engine: bytes | None
    reason: str


@dataclass(frozen=True, slots=True)
class EngineCache:
    folder: Path

    def find(self, order: Facts, place: Facts) -> Found:
        """`order` is what was asked for, `place` is where it is to run."""
        facts = self._facts(order, place)
        if facts.is_file():
            return self._checked(facts, order, place)
        others = sorted(self.folder.glob(f"{_digest(order)}-*.json"))
        reasons = [_difference(_read(other).get("place", {}), place) for other in others]
        if not reasons:
            return Found(None, "no engine of this network with these settings yet")
        return Found(None, f"the engine at hand was built elsewhere: {'; or '.join(reasons)}")

    def keep(self, order: Facts, place: Facts, engine: bytes) -> None:
        """The engine first, what it is afterwards: a half-written one is never found."""
        facts = self._facts(order, place)
        _write(facts.with_suffix(".engine"), engine)
        described = {"order": dict(order), "place": dict(place), "bytes": len(engine),
                     "sha256": hashlib.sha256(engine).hexdigest()}  # fmt: skip
        _write(facts, json.dumps(described, indent=1).encode())

    def timing(self, place: Facts) -> bytes:
        """Which kernels were timed before in that place; empty when none were."""
        path = self._timing(place)
        return path.read_bytes() if path.is_file() else b""

    def keep_timing(self, place: Facts, timed: bytes) -> None:
        _write(self._timing(place), timed)

    def _checked(self, facts: Path, order: Facts, place: Facts) -> Found:
        described = _read(facts)
        for half, wanted in (("order", order), ("place", place)):
            if described.get(half) != dict(wanted):
                said = _difference(described.get(half, {}), wanted)
                return Found(None, f"the engine at hand is another: {said}")
        path = facts.with_suffix(".engine")
        engine = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(engine).hexdigest() != described.get("sha256"):
            return Found(None, f"the engine at hand is damaged: {len(engine)} bytes of "
                               f"{described.get('bytes')}, or not those written")  # fmt: skip
        return Found(engine, "built before")

    def _facts(self, order: Facts, place: Facts) -> Path:
        return self.folder / f"{_digest(order)}-{_digest(place)}.json"

    def _timing(self, place: Facts) -> Path:
        return self.folder / f"{_digest(place)}.timing"


def cache_folder(kind: str) -> Path:
    """Where that kind of compiled network is kept: $SHOAL_CACHE, or the user's cache folder."""
    chosen = os.environ.get(ENVIRONMENT)
    if chosen:
        return Path(chosen) / kind
    users = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(users) / "shoal" / kind


def _difference(theirs: Facts, ours: Facts) -> str:
    names = sorted({*theirs, *ours})
    return ", ".join(
        f"{name} {theirs.get(name, 'unknown')}, here {ours.get(name, 'unknown')}"
        for name in names
        if theirs.get(name) != ours.get(name)
    )


def _digest(facts: Facts) -> str:
    return hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()[:24]


def _read(path: Path) -> dict[str, Facts]:
    try:
        described = json.loads(path.read_text())
    except (ValueError, OSError):
        return {}
    return described if isinstance(described, dict) else {}


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)
