"""A device in its own network namespace, behind a link that is slow and loses packets."""

import os
import shutil
import sys
from pathlib import Path
from time import monotonic

import pytest
from loopback_sshd import NEEDED, LoopbackSshd, reachable
from slow_link import SlowLink

from profiles import remote
from profiles.rounds import measure
from profiles.target import Target

MISSING = [
    what
    for what, here in {
        "root": os.geteuid() == 0,
        "ip (apt-get install iproute2)": shutil.which("ip"),
        "/dev/net/tun": Path("/dev/net/tun").exists(),
    }.items()
    if not here
]
pytestmark = [
    NEEDED,
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"a network namespace needs {', '.join(MISSING)}"),
]
DELAY_S = 0.04  # one way
DEVICE = Target("device", "ort", transport="ssh", host="device", python=sys.executable)


def test_the_network_is_in_no_number(tmp_path, make_network, monkeypatch):
    """A round trip is at least 80 ms; the neural network takes far less than half of that."""
    link = SlowLink(delay_s=DELAY_S, loss=0.02)
    with (
        link,
        LoopbackSshd(tmp_path, address=link.there, inside=link.inside) as device,
        reachable(device, monkeypatch),
    ):
        connection = remote.connection(DEVICE)
        started = monotonic()
        connection.ask("release")
        round_trip_s = monotonic() - started

        (measured,) = measure(
            DEVICE, [make_network()], rounds=1, block_s=0.001, min_runs=5, warm_up_s=0.01
        )

    assert round_trip_s >= 2 * DELAY_S
    assert measured.median_ms < 1e3 * DELAY_S
    assert link.lost > 0
