"""A device behind ssh: one connection per session, fresh workers on the device, nothing listening.

One long-lived ssh carries all of a session. (A ControlMaster with one ssh per worker would leave
nobody on the device to hold the lock, to kill a worker that hangs, or to notice a vanished client.)
The agent at its other end is our own source, sent once and named by its SHA-256.
"""

from __future__ import annotations

import atexit
import base64
import getpass
import json
import os
import platform
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from profiles.artifact_store import Piece, files_of, manifest_of
from profiles.environment import Fingerprint, fingerprint
from profiles.greeting import reach
from profiles.ssh import CONFIG, GOODBYE_S
from profiles.target import Target
from runtimes.errors import InputError, NothingMeasured, RuntimeUnavailable

ANSWER_WITHIN_S = 60.0
HASHED_WITHIN_S = 600.0  # large weights on a slow card
PING_S = 10.0
PIECE_BYTES = 1 << 18
IN_FLIGHT = 8  # pieces: the network's round trip is paid once for all of them


class Connection:
    """The client's end of one ssh; once lost it stays lost."""

    def __init__(self, host: str, python: str):
        self.host, self.python = host, python
        self.lost: str | None = None
        self.leased = False
        self._number = 0
        self._sent: dict[tuple[Any, ...], tuple[str, str]] = {}
        self._asking, self._over = threading.RLock(), threading.Event()
        self._ssh, self.device = reach(host, python)
        threading.Thread(target=self._ping, daemon=True).start()

    def ask(self, do: str, *, within_s: float = ANSWER_WITHIN_S, **request: Any) -> dict[str, Any]:
        """One request to the agent and its answer; an agent that is silent is given up."""
        with self._asking:
            try:
                return self._wait(self._send(do, request), do, within_s)
            except TimeoutError as e:
                raise self._broken(do, f"no answer within {within_s:.0f} s") from e

    def ask_worker(self, number: int, request: dict[str, Any], *, within_s: float) -> str:
        """The line that a worker answers; TimeoutError when it does not in time."""
        with self._asking:
            asked = {"worker": number, "request": request}
            sent = self._send("ask", asked, called=request["do"])
            return self._wait(sent, request["do"], within_s)["line"]

    def try_lease(self, what: str) -> str | None:
        """None when the device is ours now, else who has it."""
        user = f"{getpass.getuser()} at {platform.node()}"
        owner = self.ask("lease", user=user, what=what)["holder"]
        self.leased = owner is None
        return owner

    def release(self) -> None:
        """Nothing to do where the connection is gone: the lock went with it."""
        self.leased = False
        if self.lost is None:
            try:
                self.ask("release", within_s=GOODBYE_S)
            except NothingMeasured:
                return  # it is closed, and the lock with it

    def send_artifact(self, network: Path) -> tuple[str, str]:
        """Its name and its path on the device, after sending what is not there yet."""
        files = files_of(network)
        stamp = tuple((name, str(path), _stamp(path)) for name, path in sorted(files.items()))
        if stamp not in self._sent:
            with self._asking:
                self._sent[stamp] = self._send_files(manifest_of(files), files)
        return self._sent[stamp]

    def close(self) -> None:
        """End the session, politely if there is still somebody to hear it."""
        self._over.set()
        self.lost = self.lost or "it was closed"
        self._ssh.close()

    def _send(self, do: str, request: dict[str, Any], *, called: str | None = None) -> int:
        """Its number; `called` is what an error calls it, where `do` only passes it on."""
        if self.lost is not None:
            raise self._broken(called or do)
        self._number += 1
        line = json.dumps({"id": self._number, "do": do, **request}) + "\n"
        try:
            self._ssh.write(line.encode())
        except BrokenPipeError as e:
            raise self._broken(called or do) from e
        return self._number

    def _wait(self, number: int, do: str, within_s: float) -> dict[str, Any]:
        """The answer to that request; those to requests given up earlier are passed over."""
        until = monotonic() + within_s
        while True:
            line = self._ssh.lines.next(max(until - monotonic(), 0))
            if line is None:
                raise self._broken(do)
            try:
                answer = json.loads(line)
            except ValueError as e:
                raise self._broken(do, f"it said {line[:80]!r}") from e
            if answer.get("id") == number:
                return self._checked(do, answer)

    def _checked(self, do: str, answer: dict[str, Any]) -> dict[str, Any]:
        if "ok" in answer:
            return answer["ok"]
        kind, message = answer["error"]["kind"], answer["error"]["message"]
        if kind == "input":
            raise InputError(f"{self.host}: {message}")
        if kind == "unavailable":
            raise RuntimeUnavailable(f"{self.host}: {message}")
        if kind == "disk":
            raise NothingMeasured(
                f"the disk of {self.host} did not take it: {message}; make room there, or let "
                "SHOAL_CACHE there be a folder of your own, and run again: what was sent is kept"
            )
        if kind == "died":
            raise NothingMeasured(f"the worker on {self.host} died during {do!r} {message}")
        raise NothingMeasured(f"the agent on {self.host} could not make sense of {do!r}: {message}")

    def _broken(self, do: str, why: str = "") -> NothingMeasured:
        if self.lost is None:
            self._ssh.ended(0 if why else GOODBYE_S)
            self.lost = why or self._ssh.words()[-300:] or "the other end closed it"
            self.close()
        return NothingMeasured(
            f"the connection to {self.host} was lost during {do!r} ({self.lost}): run again when "
            f"`ssh {self.host} true` works; what was sent is kept"
        )

    def _send_files(self, manifest: dict[str, Piece], files: dict[str, Path]) -> tuple[str, str]:
        listed = {name: {"sha256": piece.sha256, "size_bytes": piece.size_bytes}
                  for name, piece in manifest.items()}  # fmt: skip
        wrong: list[str] = []
        for _ in range(2):  # what lay there half may be damaged: then once more from the start
            offer = self.ask("offer", within_s=HASHED_WITHIN_S, manifest=listed)
            name = offer["artifact"]
            if offer["here"] is None:
                return name, offer["network"]
            waiting: list[int] = []
            for file, at, content in _pieces(files, offer["here"]):
                text = base64.b64encode(content).decode()
                request = {"artifact": name, "file": file, "at": at, "bytes": text}
                waiting.append(self._send("piece", request))
                if len(waiting) >= IN_FLIGHT:
                    self._wait(waiting.pop(0), "piece", ANSWER_WITHIN_S)
            for number in waiting:
                self._wait(number, "piece", ANSWER_WITHIN_S)
            wrong = self.ask("finish", within_s=HASHED_WITHIN_S, artifact=name)["wrong"]
            if not wrong:
                return name, offer["network"]
        raise NothingMeasured(
            f"{', '.join(wrong)} did not arrive on {self.host} as it is here, twice: did it "
            "change while it was sent?"
        )

    def _ping(self) -> None:
        while not self._over.wait(PING_S):
            try:
                self._ssh.write(b'{"do": "ping"}\n')
            except (OSError, ValueError):
                return  # whoever asks next is told


_open: dict[tuple[str, ...], Connection] = {}


def connection(target: Target) -> Connection:
    """The session's own to that device; a lost one is replaced, unless it held the device."""
    key = _key(target)
    known = _open.get(key)
    if known is None or (known.lost is not None and not known.leased):
        known = _open[key] = Connection(key[0], key[1])
    return known


def _key(target: Target) -> tuple[str, ...]:
    assert target.host is not None, "a target with transport ssh has a host"
    python = target.python or "python3"
    return (target.host, python, os.environ.get(CONFIG, ""), str(os.getpid()))


def fingerprint_of(target: Target) -> Fingerprint:
    """Of the host that the target's numbers come from, as it was when the session began."""
    if target.transport == "local":
        return fingerprint()
    known = _open.get(_key(target)) or connection(target)
    return Fingerprint(**known.device["host"])


def fingerprint_of_all(targets: Sequence[Target]) -> Fingerprint:
    """The first target's host; of every other host its facts too, under the target's name."""
    first = fingerprint_of(targets[0])
    facts, missing = dict(first.facts), dict(first.missing)
    seen = {targets[0].host}
    for target in targets[1:]:
        if target.host not in seen:
            seen.add(target.host)
            other = fingerprint_of(target)
            facts |= {f"{target.name}: {name}": value for name, value in other.facts.items()}
            missing |= {f"{target.name}: {name}": why for name, why in other.missing.items()}
    return Fingerprint(facts, missing)


def close_all() -> None:
    """Every session of this process; a forked child has none of its own yet."""
    for key in [key for key in _open if key[-1] == str(os.getpid())]:
        _open.pop(key).close()


atexit.register(close_all)


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _pieces(files: dict[str, Path], here: dict[str, int]) -> Iterator[tuple[str, int, bytes]]:
    """(file, offset, bytes) of what is missing; one of no bytes where a file is empty."""
    for name, at in here.items():
        with files[name].open("rb") as file:
            file.seek(at)
            while content := file.read(PIECE_BYTES):
                yield name, at, content
                at += len(content)
            if at == 0:
                yield name, 0, b""
