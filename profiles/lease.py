"""One measurement at a time on a device: whoever comes second waits, and is told for whom.

The lock is taken by a process on the device itself, this one or the agent there, so that it does
not matter from where and by whom a device is asked.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, sleep

from profiles.device_lock import holder, lock_file, open_lock, sign, try_lock
from profiles.remote import connection
from profiles.target import Target
from runtimes.errors import NothingMeasured

PATIENCE_S = 600.0
LOOK_AGAIN_S = 0.2
TELL_AGAIN_S = 60.0


@contextmanager
def lease(
    target: Target,
    what: str,
    *,
    patience_s: float = PATIENCE_S,
    say: Callable[[str], None] = lambda _message: None,
) -> Iterator[None]:
    """Hold the target's device; `say` tells who has it, while it has to be waited for."""
    taken = _there if target.transport == "ssh" else _here
    with taken(target, what) as attempt:
        began, tell_at_s = monotonic(), 0.0
        while (owner := attempt()) is not None:
            waited_s = monotonic() - began
            if waited_s >= tell_at_s:
                so_far = f", {waited_s:.0f} s so far" if tell_at_s else ""
                say(f"{target.name}: waiting for {owner}{so_far}")
                tell_at_s = waited_s + TELL_AGAIN_S
            if waited_s >= patience_s:
                raise NothingMeasured(
                    f"target {target.name!r} was held for more than {patience_s:.0f} s by "
                    f"{owner}: try again when it is done"
                )
            sleep(LOOK_AGAIN_S)
        yield


@contextmanager
def _here(_target: Target, what: str) -> Iterator[Callable[[], str | None]]:
    """A function that tries once: None when it was got, else who has it."""
    path = lock_file()
    descriptor = open_lock(path)

    def attempt() -> str | None:
        if not try_lock(descriptor):
            return holder(path)
        sign(descriptor, getpass.getuser(), what)
        return None

    try:
        yield attempt
    finally:
        os.close(descriptor)


@contextmanager
def _there(target: Target, what: str) -> Iterator[Callable[[], str | None]]:
    asked = connection(target)
    try:
        yield lambda: asked.try_lease(what)
    finally:
        asked.release()
