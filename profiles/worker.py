"""The client's end of a worker process: ask, wait no longer than agreed, never trust silence.

A worker that dies, hangs or answers nonsense becomes `NothingMeasured` with what is known of
its end; it never becomes a number.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from runtimes.errors import InputError, NothingMeasured, RuntimeUnavailable

ROOT = Path(__file__).resolve().parent.parent
GRACE_S = 5  # the worker's own alarm comes this much after our patience ends
STDERR_TAIL = 400
LIBRARY_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Worker:
    """One process; `with` ends it whatever happens."""

    def __init__(self, command: Sequence[str] | None = None, *, python: str | None = None):
        self.command = tuple(command or (python or sys.executable, "-m", "profiles.agent"))
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._unread = b""
        try:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=_environment(),
                start_new_session=True,  # Ctrl-C is ours to handle, not the worker's
            )
        except OSError as e:
            self._stderr.close()
            raise RuntimeUnavailable(
                f"the worker {self.command[0]!r} cannot be started ({e.strerror}): "
                "check the target's `python`"
            ) from e

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
        deadline_s = int(within_s) + GRACE_S
        line = json.dumps({"do": do, "deadline_s": deadline_s, **request}) + "\n"
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except BrokenPipeError as e:
            raise NothingMeasured(self._obituary(do)) from e
        return self._checked(do, self._read_line(do, within_s))

    def _read_line(self, do: str, within_s: float) -> bytes:
        assert self._process.stdout is not None
        until = monotonic() + within_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(until - monotonic(), 0)):
                    self.kill()
                    raise NothingMeasured(
                        f"the worker did not answer {do!r} within {within_s:.0f} s and was ended"
                    )
                piece = os.read(self._process.stdout.fileno(), 1 << 16)
                if not piece:
                    raise NothingMeasured(self._obituary(do))
                self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _checked(self, do: str, line: bytes) -> dict[str, Any]:
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

    def _obituary(self, do: str) -> str:
        code = self._process.wait()
        how = f"exit code {code}"
        if code < 0:
            how = f"signal {signal.Signals(-code).name}"
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip()[-STDERR_TAIL:]
        return f"the worker died during {do!r} ({how})" + (f"; it said: {said}" if said else "")


def _environment() -> dict[str, str]:
    """Ours, with a fixed hash seed, this source tree, and no library pool of its own."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(paths),
        **dict.fromkeys(LIBRARY_THREADS, "1"),
    }
