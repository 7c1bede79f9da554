"""The doctor's look at every device: a real sshd, and hosts that are not there."""

from dataclasses import replace

import pytest
from loopback_sshd import NEEDED, NULL, LoopbackSshd, free_port

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
def test_each_that_does_not_says_why_and_the_others_are_asked_all_the_same(there):
    off = f"Host off\n  HostName 127.0.0.1\n  Port {free_port()}\n"
    there.config.write_text(there.config.read_text() + off)

    reasons = unreachable([replace(NULL, name="off", host="off"), NULL])

    assert list(reasons) == ["off"]
    assert "start sshd on it" in reasons["off"]


@NEEDED
def test_a_device_that_is_off_is_not_reached(there):
    there.cut()

    assert "start sshd on it" in unreachable([NULL])[NULL.name]


def test_without_ssh_the_reason_is_what_to_install(monkeypatch):
    def missing(host: str, _remote: str):
        raise RuntimeUnavailable(f"{host!r} is reached by ssh: apt-get install openssh-client")

    monkeypatch.setattr("profiles.reach.Ssh", missing)

    assert "apt-get install openssh-client" in unreachable([NULL])[NULL.name]
