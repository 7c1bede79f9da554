"""The system's OpenSSH: the user's own configuration, keys, jumps and host-key checking.

Nothing is asked at a prompt that nobody sees (`BatchMode`), nothing is forwarded, and a peer that
is silent for half a minute is gone. $SHOAL_SSH_CONFIG names a configuration to use instead of the
user's, as `ssh -F` does.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
import threading

from profiles.worker import Lines
from runtimes.errors import RuntimeUnavailable

CONFIG = "SHOAL_SSH_CONFIG"
OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": "10",
    "ServerAliveInterval": "10",
    "ServerAliveCountMax": "3",
    "ControlMaster": "no",  # the user's own master is used, but we never become one
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
}
NO_COMMAND = 127  # the device's shell did not find the interpreter
NOT_EXECUTABLE = 126
GOODBYE_S = 5.0
OWN_FAILURE = 255  # ssh's own, not the remote command's


class Unreachable(RuntimeUnavailable):
    """The device did not let us in: nothing was asked of it yet."""


def ssh_command(host: str, remote: str) -> tuple[str, ...]:
    config = os.environ.get(CONFIG)
    chosen = [f"-o{name}={value}" for name, value in OPTIONS.items()]
    return ("ssh", *(("-F", config) if config else ()), *chosen, "--", host, remote)


def shell_word(python: str) -> str:
    """One word for the device's shell, which still expands a leading `~/`."""
    if python.startswith("~/"):
        return "~/" + shlex.quote(python[2:])
    return shlex.quote(python)


def explained(host: str, code: int, said: str) -> str:
    """What ssh's last words mean and what mends it."""
    words = " ".join(said.split()) or f"ssh ended with exit code {code} and said nothing"
    for sign, remedy in REMEDIES.items():
        if sign in words:
            return f"{remedy.format(host=host)} (ssh said: {words[-300:]})"
    return f"ssh {host} failed; try it by hand: ssh {host} true (ssh said: {words[-300:]})"


REMEDIES = {
    "REMOTE HOST IDENTIFICATION HAS CHANGED": "the host key of {host!r} is not the one that is "
    "known for it: the device was installed anew, or somebody is in between; when you know which, "
    "ssh-keygen -R its name and connect once by hand: ssh {host}",
    "Host key verification failed": "the host key of {host!r} is not known here: connect once by "
    "hand and compare its fingerprint: ssh {host}",
    "Could not resolve hostname": "there is no host {host!r}: give the target file's `host` a name "
    "that `ssh {host} true` reaches, or an entry in ~/.ssh/config",
    "Permission denied": "{host!r} does not let you in without a password: ssh-copy-id {host}, or "
    "ssh-add your key",
    "Bad owner or permissions": "ssh does not trust its configuration: chmod 600 ~/.ssh/config",
    "timed out": "{host!r} does not answer: is it on, and is it reached by this network?",
    "No route to host": "{host!r} does not answer: is it on, and is it reached by this network?",
    "Network is unreachable": "{host!r} does not answer: is this machine on its network?",
    "Connection refused": "{host!r} is there but takes no ssh: start sshd on it, or mend the port "
    "in ~/.ssh/config",
}


class Ssh:
    """One ssh and what runs at its other end; written to by several threads, read by one."""

    def __init__(self, host: str, remote: str):
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._writing = threading.Lock()
        try:
            self.process = subprocess.Popen(
                ssh_command(host, remote),
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                start_new_session=True,  # Ctrl-C is ours to handle, not ssh's
            )
        except OSError as e:
            self._stderr.close()
            raise RuntimeUnavailable(
                f"{host!r} is reached by ssh, which cannot be started here ({e.strerror}): "
                "apt-get install openssh-client"
            ) from e
        assert self.process.stdout is not None
        self.lines = Lines(self.process.stdout.fileno())

    def write(self, content: bytes) -> None:
        """All of it; BrokenPipeError when ssh is gone."""
        assert self.process.stdin is not None
        view = memoryview(content)
        with self._writing:
            while view:
                view = view[self.process.stdin.write(view) :]

    def ended(self, within_s: float = GOODBYE_S) -> int:
        """Its exit code; it is killed when it does not end by itself."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            return self.process.wait()

    def words(self) -> str:
        """What ssh and the device's side said besides their answers."""
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace").strip()

    def close(self) -> None:
        """The agent sees the closed end and goes; an ssh that nobody hears is killed."""
        if not self._writing.acquire(timeout=GOODBYE_S):
            self.ended(0)
            self._writing.acquire()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        self._writing.release()
        self.ended()
        self._stderr.close()
