"""Files that are not ours to give: tried in one place after another, each named, none trusted.

What fails says why; when all have failed, one error tells all of it and the way out. Nothing else
is ever put in the place of what was asked for.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path

from pipeline.reporting.progress import Reporter
from runtimes.errors import InputError

TIMEOUT_S = 600

Sources = Sequence[tuple[str, Callable[[], Path]]]


class SourceFailed(Exception):
    """Why one source did not serve; all of them together make the user's message."""


def first_that_serves(
    name: str, sources: Sources, *, proof: str, remedy: str, reporter: Reporter
) -> Path:
    """What the first source that does not fail gives; `proof` says how it was checked."""
    failures = []
    for source, find in sources:
        try:
            found = find()
        except (SourceFailed, OSError, HTTPException) as e:
            failures.append(f"{source}: {str(e).strip() or type(e).__name__}")
        else:
            reporter.say(f"{name}: {source}, {proof}")
            return found
    raise InputError(
        f"{name} was found nowhere; tried "
        + "; ".join(f"({i}) {failure}" for i, failure in enumerate(failures, 1))
        + f". {remedy}"
    )


def run(command: list[str], folder: Path, *, complaint: str) -> None:
    """A command in `folder`; its last line that begins with `complaint` is why it failed."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as e:
        raise SourceFailed(f"{command[0]} did not end within {TIMEOUT_S} s") from e
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith(complaint)]
        last = (lines or done.stderr.splitlines() or ["it gave no reason"])[-1]
        raise SourceFailed(f"{' '.join(command)} failed: {last}")
