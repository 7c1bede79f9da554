"""Where variants of a network are built, and what a killed process left of it is removed.

Such a folder holds several networks, and nothing of a process that was killed tidies up. Each is
locked by its process (flock, which the kernel undoes however that ends); the lock's file gets its
name only when it is held, so that a folder is never taken for abandoned while it is being made.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "shoal-plan-"
LOCK = "in-use"


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder of this process."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, or removed by somebody else meanwhile
            _remove_abandoned(left)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        folder = Path(name)
        draft = folder / f"{LOCK}.draft"
        lock = os.open(draft, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            draft.rename(folder / LOCK)
            yield folder
        finally:
            os.close(lock)


def _remove_abandoned(folder: Path) -> None:
    """Raises BlockingIOError where its process lives."""
    lock = os.open(folder / LOCK, os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    finally:
        os.close(lock)
