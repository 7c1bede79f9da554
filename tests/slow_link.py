"""A network of delay and loss where the kernel has no netem: two namespaces, a wire made by hand.

Each end is a tun device in a network namespace of its own. What a packet needs to cross is decided
here, packet by packet: it is lost with a probability, or delivered after the delay.
"""

from __future__ import annotations

import fcntl
import os
import random
import selectors
import struct
import subprocess
from collections import deque
from threading import Thread
from time import monotonic

TUNSETIFF = 0x400454CA
IFF_TUN_WITHOUT_HEADER = 0x0001 | 0x1000
PACKET_BYTES = 2048


class SlowLink:
    """`with` gives a namespace, reached from this one at `there`, commands in it by `inside`."""

    def __init__(self, *, delay_s: float, loss: float):
        """Named and numbered by this process: several may test at once on one machine."""
        number = os.getpid()
        self.name = f"shoal-{number}"
        self.ends = (f"shoal{number}a", f"shoal{number}b")
        self.here, self.there = (f"10.87.{number % 250}.{host}" for host in (1, 2))
        self.delay_s, self.loss = delay_s, loss
        self.lost = self.carried = 0
        self.inside = ("ip", "netns", "exec", self.name)

    def __enter__(self) -> SlowLink:
        ip("netns", "add", self.name)
        self._ends = [tun(name) for name in self.ends]
        ip("link", "set", self.ends[1], "netns", self.name)
        for prefix, device, mine, peer in (
            ((), self.ends[0], self.here, self.there),
            (("-n", self.name), self.ends[1], self.there, self.here),
        ):
            ip(*prefix, "addr", "add", mine, "peer", peer, "dev", device)
            ip(*prefix, "link", "set", device, "up")
        ip("-n", self.name, "link", "set", "lo", "up")
        self._stop, self._stopped = os.pipe()
        self._thread = Thread(target=self._carry)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._stopped)
        self._thread.join()
        for end in (*self._ends, self._stop):
            os.close(end)
        ip("netns", "del", self.name)

    def _carry(self) -> None:
        chance = random.Random(0)
        here, there = self._ends
        other = {here: there, there: here}
        travelling: deque[tuple[float, int, bytes]] = deque()  # the delay is one, so in order
        with selectors.DefaultSelector() as selector:
            for end in (here, there, self._stop):
                selector.register(end, selectors.EVENT_READ)
            while True:
                wait_s = max(travelling[0][0] - monotonic(), 0) if travelling else None
                for key, _ in selector.select(wait_s):
                    if key.fd == self._stop:
                        return
                    packet = os.read(key.fd, PACKET_BYTES)
                    if chance.random() < self.loss:
                        self.lost += 1
                    else:
                        travelling.append((monotonic() + self.delay_s, other[key.fd], packet))
                while travelling and travelling[0][0] <= monotonic():
                    _, end, packet = travelling.popleft()
                    os.write(end, packet)
                    self.carried += 1


def tun(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN_WITHOUT_HEADER))
    return descriptor


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
