"""`shoal targets check`: every link can break, and the first that does is named."""

import json
import sys
from dataclasses import replace

import pytest
from loopback_sshd import interpreter, target_file
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.devices import checking
from pipeline.reporting.progress import Reporter
from profiles import remote
from profiles.lease import lease
from profiles.target import Target
from runtimes.errors import InputError

QUIET = Reporter(quiet=True)
HERE = Target("here", "ort")
NAMES = ["reach", "python", "sdk", "lease", "run", "state", "noise"]


@pytest.fixture(autouse=True)
def any_noise(monkeypatch):
    """What else runs on this machine is no fact of these tests."""
    monkeypatch.setattr(checking, "DISTURBED_LIMIT", 1.0)


def broken_at(target):
    document = checking.check(target, QUIET)
    held = [link.name for link in document.links if link.holds]
    untried = [link.name for link in document.links if link.holds is None]
    assert [*held, document.broken, *untried] == NAMES
    (link,) = (link for link in document.links if link.holds is False)
    return document.broken, link.detail, checking.exit_code(document)


def without_numpy(folder):
    return interpreter(folder, f'exec {sys.executable} -S "$@"')


def without_onnxruntime(folder):
    (folder / "onnxruntime.py").write_text(
        "raise ModuleNotFoundError('no onnxruntime', name='onnxruntime')"
    )
    return interpreter(folder, f'PYTHONPATH={folder}:$PYTHONPATH exec {sys.executable} "$@"')


def test_a_target_on_this_machine_holds():
    document = checking.check(HERE, QUIET)

    assert [(link.name, link.holds) for link in document.links] == [(name, True) for name in NAMES]
    assert (document.holds, document.broken, checking.exit_code(document)) == (True, None, 0)
    assert document.noise_spread is not None


def test_an_interpreter_that_is_not_there_breaks_the_python():
    name, detail, code = broken_at(replace(HERE, python="/no/such/python"))

    assert (name, code) == ("python", 5)
    assert "/no/such/python" in detail


def test_an_interpreter_without_numpy_breaks_the_python_and_is_named(tmp_path):
    python = without_numpy(tmp_path)

    name, detail, code = broken_at(replace(HERE, python=python))

    assert (name, code) == ("python", 5)
    assert "No module named 'numpy'" in detail
    assert f"`python` in the target file, {python}, has to be" in detail


def test_a_runtime_that_is_not_installed_breaks_the_sdk_and_says_what_to_install(tmp_path):
    name, detail, code = broken_at(replace(HERE, python=without_onnxruntime(tmp_path)))

    assert (name, code) == ("sdk", 5)
    assert "pip install" in detail


def test_a_device_that_the_runtime_lacks_breaks_the_run():
    name, detail, code = broken_at(replace(HERE, device="abacus"))

    assert (name, code) == ("run", 5)
    assert "abacus" in detail


def test_a_device_that_is_being_measured_on_breaks_the_lease_and_says_by_whom(monkeypatch):
    monkeypatch.setattr(checking, "PATIENCE_S", 0.0)

    with lease(HERE, "measuring for the other team"):
        name, detail, code = broken_at(HERE)

    assert (name, code) == ("lease", 5)
    assert "measuring for the other team" in detail


def test_the_lease_is_given_back():
    checking.check(HERE, QUIET)

    with lease(HERE, "afterwards", patience_s=0):
        pass


def test_a_runtime_that_computes_something_else_breaks_the_run():
    name, detail, code = broken_at(replace(HERE, runtime="null"))

    assert (name, code) == ("run", 5)
    assert "are not numpy's" in detail


def test_a_power_mode_that_the_device_does_not_tell_is_not_taken_for_the_one_asked():
    name, detail, code = broken_at(replace(HERE, power_mode="MAXN"))

    assert (name, code) == ("state", 4)
    assert "the power mode is not known, not MAXN" in detail


def test_locked_clocks_of_a_gpu_are_not_said_to_be_checked():
    document = checking.check(replace(HERE, clocks="locked"), QUIET)

    state = next(link for link in document.links if link.name == "state")
    assert "cannot tell" in state.detail


def test_a_device_that_is_disturbed_breaks_the_noise(monkeypatch):
    monkeypatch.setattr(checking, "DISTURBED_LIMIT", -0.1)

    name, detail, code = broken_at(HERE)

    assert (name, code) == ("noise", 4)
    assert "`cores` of its own" in detail


def test_the_command_prints_the_document_and_ends_with_its_code(monkeypatch):
    monkeypatch.setattr(checking, "DISTURBED_LIMIT", -0.1)

    done = CliRunner().invoke(app, ["targets", "check", "x86-cpu", "--json"])

    document = json.loads(done.stdout)
    assert (document["schema"], document["broken"], done.exit_code) == ("shoal.check/1", "noise", 4)


def test_a_person_sees_every_link():
    table = checking.show_check(checking.check(HERE, QUIET))

    assert table.title == "here: every link holds"
    assert table.row_count == len(NAMES)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["check"], "which target is to be checked"),
        (["check", "x86-cp"], "did you mean 'x86-cpu'"),
        (["x86-cpu", "l4"], "one target at a time"),
    ],
)
def test_a_mistaken_command_says_what_was_possible(words, match):
    done = CliRunner().invoke(app, ["targets", *words])

    assert isinstance(done.exception, InputError)
    assert match in str(done.exception)


def test_a_target_is_still_shown_by_its_name():
    done = CliRunner().invoke(app, ["targets", "l4", "--json"])

    assert json.loads(done.stdout)["targets"][0]["name"] == "l4"


def test_a_target_that_is_called_check_is_shown(tmp_path, monkeypatch):
    (tmp_path / "check.toml").write_text('runtime = "ort"\ndescription = "the till"')
    monkeypatch.setenv("SHOAL_TARGETS", str(tmp_path))

    done = CliRunner().invoke(app, ["targets", "check", "--json"])

    assert json.loads(done.stdout)["targets"][0]["description"] == "the till"


@pytest.fixture
def there(sshd, monkeypatch):
    monkeypatch.setenv("SHOAL_SSH_CONFIG", str(sshd.config))
    yield Target("there", "ort", transport="ssh", host="device", python=sys.executable)
    remote.close_all()
    sshd.write_client_config()


def test_a_target_behind_ssh_holds(there):
    document = checking.check(there, QUIET)

    assert [link.detail for link in document.links if not link.holds] == []
    assert document.host["env SHOAL_CACHE"]


def test_a_host_that_ssh_does_not_know_breaks_the_reach(there):
    name, detail, code = broken_at(replace(there, host="no-such-host.invalid"))

    assert (name, code) == ("reach", 5)
    assert "~/.ssh/config" in detail


def test_an_unknown_host_key_breaks_the_reach(sshd, there):
    sshd.write_client_config(UserKnownHostsFile="/dev/null")

    name, detail, _ = broken_at(there)

    assert name == "reach"
    assert "host key" in detail


def test_an_interpreter_that_is_not_on_the_device_breaks_the_python(there):
    name, detail, code = broken_at(replace(there, python="python3-of-nobody"))

    assert (name, code) == ("python", 5)
    assert "python3-of-nobody" in detail


def test_a_device_there_without_numpy_breaks_the_python(there, tmp_path):
    name, detail, _ = broken_at(replace(there, python=without_numpy(tmp_path)))

    assert name == "python"
    assert "no numpy" in detail


def test_a_setting_that_the_runtime_there_lacks_breaks_the_sdk(there):
    name, detail, _ = broken_at(replace(there, settings={"speed": 11}))

    assert name == "sdk"
    assert "speed" in detail


@pytest.mark.usefixtures("there")
def test_the_whole_command_over_ssh_by_a_target_file(tmp_path, monkeypatch):
    target_file(tmp_path)
    monkeypatch.setenv("SHOAL_TARGETS", str(tmp_path))

    done = CliRunner().invoke(app, ["targets", "check", "device", "--json"])

    assert (json.loads(done.stdout)["broken"], done.exit_code) == (None, 0)
