"""The client's end of a worker process: ask, wait no longer than agreed, never trust silence.

A worker that dies, hangs or answers nonsense becomes `NothingMeasured` with what is known of
its end; it never becomes a number. The agent on a device has workers too, and passes lines on.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from runtimes.errors import InputError, NothingMeasured, RuntimeUnavailable

ROOT = Path(__file__).resolve().parent.parent
GRACE_S = 5  # the worker's own alarm comes this much after our patience ends
STDERR_TAIL = 400
# Not `-m`: it would put the user's folder first, with whatever is called `profiles` there.
START = """import sys
sys.path[:] = filter(None, sys.path)
from profiles.agent import main
main()"""
LIBRARY_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Asked(Protocol):
    """A worker wherever it is; `with` ends it whatever happens."""

    def __enter__(self) -> Asked: ...

    def __exit__(self, *error: object) -> None: ...

    def ask(self, do: str, *, within_s: float, **request: Any) -> dict[str, Any]:
        """Send one request and wait for its answer, at most `within_s`."""
        ...


class Lines:
    """Whole lines from a pipe, with patience."""

    def __init__(self, descriptor: int):
        self.descriptor = descriptor
        self._unread = b""

    def next(self, within_s: float) -> bytes | None:
        """The next line without its end; None when the other side closed. TimeoutError if late."""
        until = monotonic() + within_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.descriptor, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(until - monotonic(), 0)):
                    raise TimeoutError
                if not self.read():
                    return None
        return self.pop()

    def read(self) -> bool:
        """Take what is there; False when the other side closed."""
        piece = os.read(self.descriptor, 1 << 16)
        self._unread += piece
        return bool(piece)

    def pop(self) -> bytes | None:
        """A line that is here already, or None."""
        if b"\n" not in self._unread:
            return None
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    @property
    def waiting_bytes(self) -> int:
        return len(self._unread)


class Worker:
    """One process on this machine."""

    def __init__(
        self,
        command: Sequence[str] | None = None,
        *,
        python: str | None = None,
        keeps: Sequence[int] = (),
    ):
        """It keeps the file descriptors `keeps` open as long as it lives."""
        self.command = tuple(command or (python or sys.executable, "-c", START))
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        try:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=_environment(),
                pass_fds=tuple(keeps),
                start_new_session=True,  # Ctrl-C is ours to handle, not the worker's
            )
        except OSError as e:
            self._stderr.close()
            raise RuntimeUnavailable(
                f"the worker {self.command[0]!r} cannot be started ({e.strerror}): "
                "check the target's `python`"
            ) from e
        assert self._process.stdout is not None
        self.lines = Lines(self._process.stdout.fileno())

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        self._stderr.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """End it at once; ours alone, by its process group."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # what was unsent died with it

    def ask(self, do: str, *, within_s: float, **request: Any) -> dict[str, Any]:
        """Send one request and wait for its answer, at most `within_s`."""
        try:
            self.send(json.dumps(worker_request(do, within_s, request)))
            line = self.lines.next(within_s)
        except TimeoutError as e:
            self.kill()
            raise NothingMeasured(
                f"the worker did not answer {do!r} within {within_s:.0f} s and was ended"
            ) from e
        except BrokenPipeError as e:
            raise NothingMeasured(f"the worker died during {do!r} {self.end()}") from e
        if line is None:
            raise NothingMeasured(f"the worker died during {do!r} {self.end()}")
        return checked_answer(do, line)

    def send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def end(self) -> str:
        """How it ended, and its last words."""
        code = self._process.wait()
        how = f"exit code {code}"
        if code < 0:
            how = f"signal {signal.Signals(-code).name}"
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip()[-STDERR_TAIL:]
        return f"({how})" + (f"; it said: {said}" if said else "")


def worker_request(do: str, within_s: float, request: Mapping[str, Any]) -> dict[str, Any]:
    """The worker's own alarm goes off a little after our patience."""
    return {"do": do, "deadline_s": int(within_s) + GRACE_S, **request}


def checked_answer(do: str, line: bytes | str) -> dict[str, Any]:
    """What was asked for; a refusal becomes the error that it is."""
    try:
        answer = json.loads(line)
    except ValueError as e:
        raise NothingMeasured(f"the worker answered {do!r} with {line[:80]!r}") from e
    if "ok" in answer:
        return answer["ok"]
    kind, message = answer["error"]["kind"], answer["error"]["message"]
    if kind == "unavailable":
        raise RuntimeUnavailable(message)
    if kind == "input":
        raise InputError(message)
    raise NothingMeasured(f"the worker failed at {do!r} ({kind}): {message}")


def _environment() -> dict[str, str]:
    """Ours, with a fixed hash seed, this source tree, and no library pool of its own."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(paths),
        **dict.fromkeys(LIBRARY_THREADS, "1"),
    }
