"""A device of one's own: OpenSSH's sshd on loopback, with its own keys, and a client's view of it.

Nothing of the user's is read or written: neither ~/.ssh, nor the cache, nor the leases. It needs no
root, but as root sshd wants its empty folder /run/sshd.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from time import monotonic, sleep

import pytest

from profiles import remote
from profiles.target import Target

SSHD = "/usr/sbin/sshd"
NULL = Target("device", "null", transport="ssh", host="device", python=sys.executable)
QUICK = {"rounds": 1, "block_s": 0.001, "min_runs": 5, "warm_up_s": 0.01}
NEEDED = pytest.mark.skipif(
    not Path(SSHD).exists(), reason="no sshd here: apt-get install openssh-server"
)


def interpreter(folder: Path, lines: str) -> str:
    """One that does something else first."""
    path = folder / "python there"
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return str(path)


class LoopbackSshd:
    """`with LoopbackSshd(folder) as device:` then reach it by `ssh -F device.config device`."""

    def __init__(self, folder: Path, address: str = "127.0.0.1", inside: tuple[str, ...] = ()):
        """`inside` is a command that runs another in a network namespace."""
        self.folder, self.address, self.inside = folder, address, inside
        self.port = free_port()
        self.config = folder / "client_config"
        self.cache, self.leases = folder / "device-cache", folder / "device-leases"
        self.known_hosts = folder / "known_hosts"
        self.process: subprocess.Popen[bytes] | None = None
        self._changing = Lock()  # a timer may cut it while a test starts it again
        for name in ("host_key", "user_key"):
            make_key(folder / name)
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        host_key = (folder / "host_key.pub").read_text().split()
        self.known_hosts.write_text(f"device {host_key[0]} {host_key[1]}\n")
        self._write_server_config()
        self.write_client_config()

    def __enter__(self) -> LoopbackSshd:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.cut()

    def start(self) -> None:
        with self._changing:
            self._start()

    def _start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        command = [*self.inside, SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        log = (self.folder / "sshd.log").open("ab")
        self.process = subprocess.Popen(command, stderr=log, start_new_session=True)
        log.close()
        until = monotonic() + 20
        while not self._listens():
            if self.process.poll() is not None or monotonic() > until:
                raise RuntimeError((self.folder / "sshd.log").read_text())
            sleep(0.02)

    def cut(self) -> None:
        """As a device that loses its power: sshd and everything below it, at once."""
        with self._changing:
            if self.process is not None:
                for pid in reversed(below(self.process.pid)):
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        continue
                self.process.wait()

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def agents(self) -> list[int]:
        """The processes that run below sshd for its sessions, workers included."""
        assert self.process is not None
        found = []
        for pid in below(self.process.pid)[1:]:
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if b"python" in command.split(b"\0")[0]:
                found.append(pid)
        return found

    def write_client_config(self, **more: str) -> None:
        options = {
            "HostName": self.address,
            "Port": str(self.port),
            "User": getpass.getuser(),
            "IdentityFile": str(self.folder / "user_key"),
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "HostKeyAlias": "device",
            "UserKnownHostsFile": str(self.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            **more,
        }
        lines = "".join(f"  {name} {value}\n" for name, value in options.items())
        self.config.write_text(f"Host device*\n{lines}")

    def log(self) -> str:
        return (self.folder / "sshd.log").read_text()

    def _write_server_config(self) -> None:
        options = {
            "Port": str(self.port),
            "ListenAddress": self.address,
            "HostKey": str(self.folder / "host_key"),
            "AuthorizedKeysFile": str(self.folder / "authorized_keys"),
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PrintMotd": "no",
            "MaxStartups": "50",
            "SetEnv": f"SHOAL_CACHE={self.cache} SHOAL_LEASES={self.leases} OMP_NUM_THREADS=1",
        }
        lines = "".join(f"{name} {value}\n" for name, value in options.items())
        (self.folder / "sshd_config").write_text(lines)

    def _listens(self) -> bool:
        """Asked of the kernel's table, where the server is: it may live in another namespace."""
        assert self.process is not None
        wanted = f":{self.port:04X} "
        try:
            lines = Path(f"/proc/{self.process.pid}/net/tcp").read_text().splitlines()
        except OSError:
            return False
        return any(wanted in line[:30] and line.split()[3] == "0A" for line in lines[1:])


@contextmanager
def reachable(device: LoopbackSshd, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For one test, which leaves nothing behind: no session, no agent, no line in the log."""
    monkeypatch.setenv("SHOAL_SSH_CONFIG", str(device.config))
    (device.folder / "sshd.log").write_bytes(b"")
    try:
        yield
    finally:
        remote.close_all()
        device.write_client_config()
        shutil.rmtree(device.cache, ignore_errors=True)


def make_key(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def below(pid: int) -> list[int]:
    """The process and its descendants, parents first."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        parents.setdefault(parent, []).append(int(folder.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def target_file(folder: Path, python: str = sys.executable, **more: str) -> Path:
    """`device`, reached by ssh, with this interpreter there."""
    values = {"runtime": "ort", "transport": "ssh", "host": "device", "python": python, **more}
    path = folder / "device.toml"
    path.write_text("".join(f'{name} = "{value}"\n' for name, value in values.items()))
    return path
