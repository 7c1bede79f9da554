"""Where and when a committed result was measured: the header of every file in `results/`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from profiles.environment import fingerprint

FACTS = ("cpu_model", "machine", "microcode", "cores", "smt", "governor", "turbo", "hypervisor",
         "cgroup_quota", "kernel", "libc", "python")  # fmt: skip


def now() -> dict[str, Any]:
    """The moment, and how busy the host is: the load averages over 1, 5 and 15 minutes."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def write(
    out: Path,
    about: str,
    command: str,
    started: Mapping[str, Any],
    ended: Mapping[str, Any] | None = None,
    **found: Any,
) -> None:
    """The result under a header that says what it is, and on what and when it was measured."""
    host = fingerprint()
    versions = {
        name.removeprefix("package "): version
        for name, version in host.facts.items()
        if name.startswith("package ")
    }
    document = {
        "about": about,
        "command": command,
        "device": {name: host.facts.get(name) for name in FACTS},
        "unknown": {name: why for name, why in host.missing.items() if name in FACTS},
        "versions": versions,
        "started": started,
        "ended": ended or now(),
        **found,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=1) + "\n")
