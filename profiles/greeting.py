"""How a session begins: the device gets the agent it lacks, and both agree on who they are."""

from __future__ import annotations

import json
from time import monotonic
from typing import Any

from profiles.bundle import archive, bootstrap_command, code_sha256, header, sources
from profiles.remote_agent import PROTOCOL
from profiles.ssh import (
    NO_COMMAND,
    NOT_EXECUTABLE,
    OWN_FAILURE,
    Ssh,
    Unreachable,
    explained,
    shell_word,
)
from runtimes.errors import InputError, NothingMeasured, RuntimeUnavailable

HELLO_WITHIN_S = 40.0


def reach(host: str, python: str) -> tuple[Ssh, dict[str, Any]]:
    """An agent of this very code at the other end, and what it says of its device."""
    found = sources()
    code = code_sha256(found)
    ssh = Ssh(host, bootstrap_command(shell_word(python), code))
    greeting = Greeting(ssh, host, python)
    try:
        if greeting.told("it was asked for the agent")["wanted"]:
            packed = archive(found)
            greeting.send(header(packed) + packed)
        said = greeting.told("the agent was started")
        greeting.check(said, code)
    except BaseException:
        ssh.close()
        raise
    return ssh, said


class Greeting:
    """Who is spoken to, for the errors."""

    def __init__(self, ssh: Ssh, host: str, python: str):
        self.ssh, self.host, self.python = ssh, host, python

    def send(self, content: bytes) -> None:
        try:
            self.ssh.write(content)
        except BrokenPipeError as e:
            raise self._unstarted("the agent was sent") from e

    def check(self, said: dict[str, Any], code: str) -> None:
        """What the agent says of itself must be what we are, and it must be able to work."""
        theirs = (said["protocol"], said["code"])
        if theirs != (PROTOCOL, code):
            raise InputError(
                f"the agent in {said['folder']} on {self.host} is another version (protocol "
                f"{theirs[0]}, code {str(theirs[1])[:12]}) than this shoal (protocol {PROTOCOL}, "
                f"code {code[:12]}): remove it there and run again, a new one is sent then: "
                f"ssh {self.host} rm -r {said['folder']}"
            )
        if not said["numpy"]:
            raise RuntimeUnavailable(
                f"{self.python} on {self.host} has no numpy: ssh {self.host} {self.python} -m pip "
                "install numpy, or set `python` in the target file to an interpreter that has it"
            )

    def told(self, doing: str) -> dict[str, Any]:
        """The bootstrap's next word; what the device's login scripts print is passed over."""
        until = monotonic() + HELLO_WITHIN_S
        while True:
            try:
                line = self.ssh.lines.next(max(until - monotonic(), 0))
            except TimeoutError as e:
                self.ssh.ended(0)
                raise Unreachable(
                    f"{self.host!r} let us in but did not start {self.python} within "
                    f"{HELLO_WITHIN_S:.0f} s: try it by hand: ssh {self.host} {self.python} "
                    "--version"
                ) from e
            if line is None:
                raise self._unstarted(doing)
            if line.startswith(b"shoal {"):
                said = json.loads(line[len(b"shoal ") :])
                self._check_problem(said)
                return said

    def _check_problem(self, said: dict[str, Any]) -> None:
        problem = said.get("problem")
        if problem == "python":
            raise RuntimeUnavailable(
                f"{self.python} on {self.host} is Python {said['found']} ({said['path']}), the "
                "agent needs 3.10 or newer: set `python` in the target file to another interpreter"
            )
        if problem == "disk":
            raise NothingMeasured(
                f"the agent cannot be written to {said['path']} on {self.host} ({said['found']}): "
                "make room there, or set SHOAL_CACHE there to a folder that has it"
            )

    def _unstarted(self, doing: str) -> Exception:
        code, words = self.ssh.ended(), self.ssh.words()
        if code == OWN_FAILURE:
            return Unreachable(explained(self.host, code, words))
        if code in (NO_COMMAND, NOT_EXECUTABLE):
            return RuntimeUnavailable(
                f"{self.host} has no interpreter {self.python!r} ({words[-200:]}): set `python` "
                "in the target file to one of Python 3.10 or newer there, with numpy and the "
                "runtime"
            )
        return NothingMeasured(
            f"{self.python} on {self.host} ended while {doing} (exit code {code}): {words[-300:]}"
        )
