"""One measurement at a time on a device: whoever comes second waits, and is told for whom.

The lease is the kernel's lock on a file that all users of the device share. The kernel drops it
when its owner dies, however it dies, so no lease is ever left behind; what the file says of the
owner is only for the message.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic, sleep

from profiles.target import Target
from runtimes.errors import NothingMeasured

ENVIRONMENT = "SHOAL_LEASES"
PATIENCE_S = 600.0
LOOK_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True)
class Owner:
    user: str
    pid: int
    what: str
    since: str

    def __str__(self) -> str:
        return f"{self.user} (process {self.pid}, {self.what}, since {self.since})"


@contextmanager
def lease(
    target: Target,
    what: str,
    *,
    patience_s: float = PATIENCE_S,
    say: Callable[[str], None] = lambda _message: None,
) -> Iterator[None]:
    """Hold the target's device; `say` tells once who has it, if it has to be waited for."""
    path = lease_file(target)
    descriptor = _open(path)
    try:
        until = monotonic() + patience_s
        told = False
        while not _try_lock(descriptor):
            if not told:
                say(f"{target.name}: waiting for {holder(path)}")
                told = True
            if monotonic() >= until:
                raise NothingMeasured(
                    f"target {target.name!r} was held for more than {patience_s:.0f} s by "
                    f"{holder(path)}: try again when it is done"
                )
            sleep(LOOK_AGAIN_S)
        _sign(descriptor, what)
        yield
    finally:
        os.close(descriptor)


def lease_file(target: Target) -> Path:
    """Targets on one host share it: two runtimes on one CPU would disturb each other."""
    folder = os.environ.get(ENVIRONMENT) or f"{tempfile.gettempdir()}/shoal-leases"
    device = target.host if target.transport == "ssh" else "local"
    return Path(folder) / f"{device}.lock"


def holder(path: Path) -> str:
    """Who signed last."""
    try:
        return str(Owner(**json.loads(path.read_text())))
    except (OSError, ValueError, TypeError):
        return "another process"


def _open(path: Path) -> int:
    """Shared by all users: the sticky folder protects the file, not its contents."""
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o1777)
    try:
        return os.open(path, os.O_RDWR)
    except FileNotFoundError:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if os.fstat(descriptor).st_uid == os.getuid():
            os.fchmod(descriptor, 0o666)
        return descriptor


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(descriptor: int, what: str) -> None:
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    text = json.dumps(asdict(Owner(getpass.getuser(), os.getpid(), what, since)))
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
