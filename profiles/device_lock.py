"""The kernel's lock on a file that all users of a device share.

The kernel drops it when the last process that holds it is gone, however it went, so no lease is
ever left behind; what the file says of the owner is only for the message.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

ENVIRONMENT = "SHOAL_LEASES"
LONGEST_NOTE = 200


@dataclass(frozen=True, slots=True)
class Owner:
    user: str
    pid: int
    what: str
    since: str

    def __str__(self) -> str:
        return f"{self.user} (process {self.pid}, {self.what}, since {self.since})"


def lock_file() -> Path:
    """Of the device that this process runs on: one, since two runtimes would disturb each other."""
    folder = os.environ.get(ENVIRONMENT) or f"{tempfile.gettempdir()}/shoal-leases"
    return Path(folder) / "local.lock"


def open_lock(path: Path) -> int:
    """Shared by all users: the sticky folder protects the file, not its contents."""
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o1777)
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        if os.fstat(descriptor).st_uid == os.getuid():
            os.fchmod(descriptor, 0o666)
        return descriptor


def try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sign(descriptor: int, user: str, what: str) -> None:
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    text = json.dumps(asdict(Owner(printable(user), os.getpid(), printable(what), since)))
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)


def holder(path: Path) -> str:
    """Who signed last; anybody may write there, so only what a terminal can show is told."""
    try:
        return printable(str(Owner(**json.loads(path.read_text()))))
    except (OSError, ValueError, TypeError):
        return "another process"


def printable(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())[:LONGEST_NOTE]
