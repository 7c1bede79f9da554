"""Stage outputs on disk, named by content, whole or absent.

A stage's folder is `stages/<name>-<hash of name and inputs>`: another seed, recipe or input gives
another name, so that what is there is what would be made again. It is filled aside, flushed and
renamed; a process killed at any moment leaves either nothing or all of it.

The lock is the kernel's (flock): it ends with the process that holds it, however that ends.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from profiles.artifact_store import sync
from runtimes.errors import InputError

RECORD = "stage.json"


class Workspace:
    """The folder of one job, held by one process from `with` to its end.

    Without `resume` a job starts over; only the stages named in `keep` are found again, because
    training the dense network anew would give the same weights.
    """

    def __init__(self, root: Path, *, resume: bool = False, keep: Collection[str] = ("dense",)):
        self.root = root
        self.resume = resume
        self.keep = keep
        self._stages = root / "stages"
        self._aside = root / ".unfinished"
        self._lock = -1

    def __enter__(self) -> Workspace:
        try:
            self._stages.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as e:
            raise InputError(
                f"workspace {str(self.root)!r} cannot be written: {e.strerror}; "
                "choose another one with --out"
            ) from e
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            holder = os.read(self._lock, 32).decode() or "unknown"
            os.close(self._lock)
            raise InputError(
                f"workspace {str(self.root)!r} is in use by process {holder}; "
                "wait for it, or choose another one with --out"
            ) from e
        os.truncate(self._lock, 0)
        os.write(self._lock, str(os.getpid()).encode())
        shutil.rmtree(self._aside, ignore_errors=True)
        if not self.resume:
            for folder in self._stages.iterdir():
                ours = (folder / RECORD).is_file()
                if ours and folder.name.rpartition("-")[0] not in self.keep:
                    shutil.rmtree(folder)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self._aside, ignore_errors=True)
        if error is not None:
            self._leave_no_empty_folder()
        os.close(self._lock)

    def _leave_no_empty_folder(self) -> None:
        """A job that failed before its first stage, and found nothing, leaves nothing."""
        try:
            self._stages.rmdir()
            (self.root / ".lock").unlink()
            self.root.rmdir()
        except OSError:  # something is in it: an earlier job's stages, or the user's own files
            return

    def scratch(self, name: str) -> Path:
        """A folder for what need not outlive this process."""
        folder = self._aside / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def finished(self, name: str, key: Mapping[str, Any]) -> Path | None:
        """The folder of a stage with these inputs, if it is there."""
        folder = self._stages / f"{name}-{_hash(name, key)}"
        return folder if folder.is_dir() else None

    def stage(self, name: str, key: Mapping[str, Any], produce: Callable[[Path], None]) -> Path:
        """The finished folder of the stage; `produce(folder)` fills it if it is not there.

        `key` is all that the output depends on, as JSON; an earlier stage goes in as its folder's
        name.
        """
        if found := self.finished(name, key):
            return found
        folder = self._stages / f"{name}-{_hash(name, key)}"
        aside = self._aside / folder.name
        aside.mkdir(parents=True)
        try:
            produce(aside)
            record = {"stage": name, "key": dict(key)}
            (aside / RECORD).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
            _flush(aside)
        except BaseException as e:  # an interruption leaves nothing behind either
            shutil.rmtree(aside, ignore_errors=True)
            if isinstance(e, OSError) and e.errno == errno.ENOSPC:
                raise InputError(
                    f"the disk of workspace {str(self.root)!r} is full; make room and go on with "
                    "--resume"
                ) from e
            raise
        aside.rename(folder)
        sync(self._stages)
        return folder

    def deliver(self, source: Path, name: str) -> Path:
        """A copy of a stage's file under `artifacts`, replaced in one step; its absolute path."""
        folder = self.root / "artifacts"
        folder.mkdir(exist_ok=True)
        aside = folder / f".{name}.{os.getpid()}"
        try:
            shutil.copyfile(source, aside)
            sync(aside)
            aside.replace(folder / name)
        finally:
            aside.unlink(missing_ok=True)
        return (folder / name).resolve()

    def withdraw(self, pattern: str) -> None:
        """Take back what an earlier run delivered under such names."""
        for path in (self.root / "artifacts").glob(pattern):
            path.unlink()


def write_whole(path: Path, content: str) -> Path:
    """Write a text file so that a reader sees the old one or the new one, never a part."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(content, encoding="utf-8")
        sync(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    sync(path.parent)
    return path


def _hash(name: str, key: Mapping[str, Any]) -> str:
    text = json.dumps([name, key], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _flush(folder: Path) -> None:
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)
