"""A device that does not let us in, or cannot do what is asked: each named, with the remedy."""

import shutil
import socket
import sys

import pytest
from loopback_sshd import NEEDED, NULL, interpreter, make_key, reachable

from profiles import greeting, remote, ssh
from profiles.rounds import open_worker, start_worker
from profiles.target import Target
from runtimes.errors import InputError, RuntimeUnavailable

pytestmark = NEEDED


@pytest.fixture
def device(sshd, monkeypatch):
    with reachable(sshd, monkeypatch):
        yield sshd
    if not sshd.running():
        sshd.start()


def test_another_host_key_is_refused_before_anything_is_said(device, tmp_path):
    make_key(tmp_path / "other")
    kind, key, *_ = (tmp_path / "other.pub").read_text().split()
    known = tmp_path / "known_hosts"
    known.write_text(f"device {kind} {key}\n")
    device.write_client_config(UserKnownHostsFile=str(known))

    with pytest.raises(InputError, match="the host key of 'device' is not the one that is known"):
        start_worker(NULL)

    assert "Accepted" not in device.log()
    assert not device.cache.exists()


def test_an_unknown_host_key_is_not_taken_on_trust(device, tmp_path):
    device.write_client_config(UserKnownHostsFile=str(tmp_path / "none"))

    with pytest.raises(InputError, match="not known here: connect once by hand"):
        start_worker(NULL)

    assert not (tmp_path / "none").exists()


def test_a_key_that_is_not_let_in_is_named(device, tmp_path):
    make_key(tmp_path / "other")
    device.write_client_config(IdentityFile=str(tmp_path / "other"))

    with pytest.raises(InputError, match="does not let you in without a password: ssh-copy-id"):
        start_worker(NULL)


def test_an_agent_of_another_version_is_named_and_what_to_do(device):
    with start_worker(NULL) as worker:
        open_worker(worker, NULL)
    remote.close_all()
    (folder,) = (device.cache / "agents").iterdir()
    agent = folder / "profiles" / "remote_agent.py"
    agent.write_text(agent.read_text().replace("PROTOCOL = 1", "PROTOCOL = 222"))

    with pytest.raises(
        InputError, match=rf"another version \(protocol 222,.*ssh device rm -r {folder}"
    ):
        start_worker(NULL)

    shutil.rmtree(folder)
    assert start_worker(NULL)


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        (None, r"has no interpreter '/nowhere/python'.*set `python` in the target file"),
        ('exec {python} -S "$@"', "has no numpy: ssh device .* -m pip install numpy"),
        (
            "exec {python} -c 'import sys; sys.version_info = (3, 8, 10); code = sys.argv[2]; "
            'del sys.argv[1:3]; exec(code)\' "$@"',
            "is Python 3.8.10 .* needs 3.10 or newer",
        ),
    ],
    ids=["missing", "no numpy", "too old"],
)
@pytest.mark.usefixtures("device")
def test_an_interpreter_there_that_will_not_do_is_named(tmp_path, lines, match):
    python = (
        interpreter(tmp_path, lines.format(python=sys.executable)) if lines else "/nowhere/python"
    )
    target = Target("device", "null", transport="ssh", host="device", python=python)

    with pytest.raises(RuntimeUnavailable, match=match):
        start_worker(target)


@pytest.mark.usefixtures("device")
def test_a_runtime_that_is_missing_there_is_named():
    target = Target("device", "trt", transport="ssh", host="device", python=sys.executable)

    with (
        start_worker(target) as worker,
        pytest.raises(RuntimeUnavailable, match=r"device: runtime 'trt' is not installed here"),
    ):
        open_worker(worker, target)


@pytest.mark.usefixtures("device")
def test_a_device_that_hangs_after_the_login_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(greeting, "HELLO_WITHIN_S", 1.0)
    target = Target("device", "null", transport="ssh", host="device",
                    python=interpreter(tmp_path, "exec sleep 600"))  # fmt: skip

    with pytest.raises(ssh.Unreachable, match=r"let us in but did not start .* within 1 s"):
        start_worker(target)


def test_a_host_that_does_not_answer_is_given_up(device, monkeypatch):
    monkeypatch.setitem(ssh.OPTIONS, "ConnectTimeout", "1")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        device.write_client_config(Port=str(silent.getsockname()[1]))

        with pytest.raises(ssh.Unreachable, match="'device' does not answer: is it on"):
            start_worker(NULL)


def test_a_machine_without_ssh_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(RuntimeUnavailable, match="apt-get install openssh-client"):
        start_worker(NULL)


def test_a_host_that_ssh_does_not_know_is_named(tmp_path, monkeypatch):
    config = tmp_path / "config"
    config.write_text("Host *\n  ProxyCommand none\n  HostName no..name\n")
    monkeypatch.setenv("SHOAL_SSH_CONFIG", str(config))

    with pytest.raises(ssh.Unreachable, match=r"there is no host 'bord'.*target file's `host`"):
        start_worker(Target("board", "null", transport="ssh", host="bord"))


@pytest.mark.parametrize("host", ["-oProxyCommand=touch /tmp/x", " board"])
def test_a_host_that_would_be_an_option_is_refused(host):
    with pytest.raises(InputError, match="host is a name that ssh knows"):
        Target("board", "null", transport="ssh", host=host)


def test_a_path_in_the_users_home_there_may_begin_with_a_tilde():
    assert ssh.shell_word("~/my venv/bin/python") == "~/'my venv/bin/python'"
    assert ssh.shell_word("/opt/it's/python") == "'/opt/it'\"'\"'s/python'"


@pytest.mark.parametrize("sign", ssh.REMEDIES)
def test_ssh_is_quoted_beside_the_remedy(sign):
    told = ssh.explained("board", 255, f"ssh: {sign}\nssh: more")

    assert told.endswith(f"(ssh said: ssh: {sign} ssh: more)")


def test_an_ssh_that_ends_without_a_word_is_told_by_its_exit_code():
    assert "exit code 255 and said nothing" in ssh.explained("board", 255, "")
