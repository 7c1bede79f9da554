"""The doctor's look at every device: a real sshd, and hosts that are not there."""

from dataclasses import replace

import pytest
from loopback_sshd import NEEDED, NULL, LoopbackSshd

from profiles.reach import unreachable
from profiles.target import Target
from runtimes.errors import RuntimeUnavailable

LOCAL = Target("here", "null")


@pytest.fixture
def there(tmp_path, monkeypatch):
    with LoopbackSshd(tmp_path) as device:
        monkeypatch.setenv("SHOAL_SSH_CONFIG", str(device.config))
        yield device


@NEEDED
def test_a_device_that_lets_us_in_is_reached_and_nothing_stays_there(there):
    assert unreachable([LOCAL, NULL]) == {}
    assert not there.cache.exists()


@NEEDED
@pytest.mark.usefixtures("there")
def test_each_that_does_not_says_why_and_the_others_are_asked_all_the_same():
    silent = replace(NULL, name="silent", host="no-such-host.invalid")

    reasons = unreachable([silent, NULL])

    assert list(reasons) == ["silent"]
    assert "give the target file's `host` a name" in reasons["silent"]


@NEEDED
def test_a_device_that_is_off_is_not_reached(there):
    there.cut()

    assert "start sshd on it" in unreachable([NULL])[NULL.name]


def test_without_ssh_the_reason_is_what_to_install(monkeypatch):
    def missing(host: str, _remote: str):
        raise RuntimeUnavailable(f"{host!r} is reached by ssh: apt-get install openssh-client")

    monkeypatch.setattr("profiles.reach.Ssh", missing)

    assert "apt-get install openssh-client" in unreachable([NULL])[NULL.name]
