"""A device behind ssh, for real: OpenSSH's sshd on loopback and nothing of the user's touched."""

import shutil
import sys
from pathlib import Path

import pytest
from loopback_sshd import SSHD, LoopbackSshd

from profiles import remote
from profiles.lease import lease
from profiles.rounds import measure
from profiles.target import Target

pytestmark = pytest.mark.skipif(
    not Path(SSHD).exists(), reason="no sshd here: apt-get install openssh-server"
)
DEVICE = Target("device", "ort", transport="ssh", host="device", python=sys.executable)
LOCAL = Target("x86-cpu", "ort")
QUICK = {"rounds": 1, "block_s": 0.001, "min_runs": 5, "warm_up_s": 0.01}


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    with LoopbackSshd(tmp_path_factory.mktemp("device")) as device:
        yield device


@pytest.fixture
def device(sshd, monkeypatch):
    """Reached by this test alone, and left by it as it was found."""
    monkeypatch.setenv("SHOAL_SSH_CONFIG", str(sshd.config))
    yield sshd
    remote.close_all()
    sshd.write_client_config()
    shutil.rmtree(sshd.cache, ignore_errors=True)


def test_a_device_behind_ssh_is_measured_as_this_machine_is(device, make_network):
    (measured,) = measure(DEVICE, [make_network()], **QUICK)

    assert measured.blocks
    assert measured.identity["providers"] == "CPUExecutionProvider"
    assert measured.fingerprint.facts["env SHOAL_CACHE"] == str(device.cache)


def test_another_host_has_a_lease_of_its_own(device):
    with lease(LOCAL, "here"), lease(DEVICE, "there", patience_s=0):
        assert (device.leases / "local.lock").is_file()
