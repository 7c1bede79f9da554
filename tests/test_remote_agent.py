"""What the agent on a device refuses, asked as a hostile client may: over its own two pipes."""

import base64
import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from profiles.artifact_store import NETWORK, manifest_of
from profiles.bundle import archive, code_sha256, sources
from profiles.device_lock import holder, lock_file, open_lock, sign, try_lock
from profiles.remote_agent import LONGEST_LINE
from profiles.worker import Lines

NOBODY = 65534
AS_NOBODY = f"""
import os, pathlib
import profiles.remote_agent as agent
store = agent.ArtifactStore(pathlib.Path(os.environ["SHOAL_CACHE"], "artifacts"))
served = agent.RemoteAgent(store, 1)
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
os.write(1, b'shoal {{"uid": %d}}\\n' % os.getuid())
served.serve(agent.Lines(0))
"""
IMPATIENT = "import profiles.remote_agent as agent; agent.SILENCE_S = 1; agent.main()"


class Spoken:
    """A client without manners."""

    def __init__(self, process):
        self.process = process
        self.lines = Lines(process.stdout.fileno())
        while not (line := self.lines.next(30) or b"").startswith(b"shoal "):
            continue
        self.hello = json.loads(line[6:])

    def say(self, line, end=b"\n"):
        self.process.stdin.write(line + end)
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """The next answer; nothing when the agent has gone."""
        return json.loads(self.lines.next(30) or b"{}")

    def ask(self, do, **request):
        self.say(json.dumps({"id": 1, "do": do, **request}).encode())
        return self.hear()

    def refused(self, do, **request):
        return self.ask(do, **request)["error"]["message"]


@contextmanager
def speaking(folder, *command):
    environment = {**os.environ, "SHOAL_CACHE": str(folder)}
    process = subprocess.Popen(
        [sys.executable, *(command or ("-c", "from profiles.remote_agent import main; main()"))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
    )  # fmt: skip
    try:
        yield Spoken(process)
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.wait(timeout=30)
        process.stdout.close()


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    with speaking(tmp_path_factory.mktemp("cache")) as spoken:
        yield spoken


def listed(network):
    manifest = manifest_of({NETWORK: network})
    return {
        name: {"sha256": piece.sha256, "size_bytes": piece.size_bytes}
        for name, piece in manifest.items()
    }


def sent(agent, network):
    """Its name, after all of it has been sent."""
    artifact = agent.ask("offer", manifest=listed(network))["ok"]["artifact"]
    text = base64.b64encode(network.read_bytes()).decode()
    agent.ask("piece", artifact=artifact, file=NETWORK, at=0, bytes=text)
    assert agent.ask("finish", artifact=artifact) == {"id": 1, "ok": {"wrong": []}}
    return artifact


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"not json", "request"),
        (b"[]", "request"),
        (b"\xff\xfe", "request"),
        (b"[" * 100_000, "request"),
        (b'{"do": "dance"}', "input"),
        (b'{"do": "offer"}', "request"),
        (b'{"do": "offer", "manifest": {"w": 1}}', "request"),
        (b'{"do": "piece", "artifact": "x", "file": "y", "at": 0, "bytes": "!"}', "input"),
        (b'{"do": "ask", "worker": 9, "request": {}}', "input"),
        (b'{"do": "ask", "worker": [], "request": {}}', "request"),
        (b'{"do": "end", "worker": "1"}', "input"),
    ],
)
def test_what_makes_no_sense_is_refused_and_the_session_goes_on(agent, line, kind):
    agent.say(line)

    assert agent.hear()["error"]["kind"] == kind
    assert agent.ask("release") == {"id": 1, "ok": {}}


def test_a_path_is_never_loaded(agent, make_network):
    worker = agent.ask("start")["ok"]["worker"]
    asked = {"do": "load", "path": str(make_network()), "key": "0"}

    assert "no path is loaded here" in agent.refused("ask", worker=worker, request=asked)


def test_a_file_outside_the_agents_folder_is_not_written(agent):
    listed = {"../../../.bashrc": {"sha256": "0" * 64, "size_bytes": 1}}

    assert "no file inside an artifact" in agent.refused("offer", manifest=listed)


def test_an_artifact_that_another_client_sent_is_not_loaded(tmp_path, make_network):
    with speaking(tmp_path / "cache") as another:
        artifact = sent(another, make_network())

    with speaking(tmp_path / "cache") as agent:
        worker = agent.ask("start")["ok"]["worker"]
        asked = {"do": "load", "artifact": artifact, "key": "0"}

        assert "was not offered in this session" in agent.refused(
            "ask", worker=worker, request=asked
        )


@pytest.fixture
def reached_by_all():
    """A folder that every user may look into; pytest's own are for their owner alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_an_artifact_of_another_user_is_refused_though_its_hash_is_known(
    reached_by_all, make_network
):
    network = make_network()
    with speaking(reached_by_all) as mine:
        artifact = sent(mine, network)

    with speaking(reached_by_all, "-c", AS_NOBODY) as other:
        offered = other.ask("offer", manifest=listed(network))["error"]
        finished = other.refused("finish", artifact=artifact)

        assert other.hello == {"uid": NOBODY}
    assert offered["kind"] == "disk"
    assert "Permission denied" in offered["message"]
    assert "was not offered in this session" in finished


def test_an_artifact_that_was_not_sent_to_its_end_is_not_loaded(agent, make_network):
    artifact = agent.ask("offer", manifest=listed(make_network(channels=5)))["ok"]["artifact"]
    worker = agent.ask("start")["ok"]["worker"]
    asked = {"do": "load", "artifact": artifact, "key": "0"}

    assert "not sent to its end" in agent.refused("ask", worker=worker, request=asked)


def test_a_busy_worker_is_not_asked_again(agent):
    worker = agent.ask("start")["ok"]["worker"]
    agent.say(json.dumps({"id": 7, "do": "ask", "worker": worker,
                          "request": {"do": "fingerprint"}}).encode())  # fmt: skip

    agent.say(json.dumps({"id": 8, "do": "ask", "worker": worker,
                          "request": {"do": "fingerprint"}}).encode())  # fmt: skip

    answers = {answer["id"]: answer for answer in (agent.hear(), agent.hear())}
    assert "still busy" in answers[8]["error"]["message"]
    assert "facts" in answers[7]["ok"]["line"]


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_an_oversized_line_is_refused_and_ends_the_session(tmp_path, end):
    with speaking(tmp_path / "cache") as agent:
        with suppress(BrokenPipeError):  # it need not read all of it to know
            agent.say(b"x" * (LONGEST_LINE + (1 << 17)), end)

        assert "a line of more than" in agent.hear()["error"]["message"]
        assert agent.hear() == {}


def test_a_client_that_is_not_heard_loses_the_device_and_its_workers(tmp_path):
    with speaking(tmp_path / "cache", "-c", IMPATIENT) as agent:
        agent.ask("lease", user="somebody", what="sleeping")
        agent.ask("start")

        assert agent.process.wait(timeout=30) == 1

    descriptor = open_lock(lock_file())
    assert try_lock(descriptor)
    os.close(descriptor)


def test_the_device_is_held_until_the_last_worker_is_gone(tmp_path):
    """An agent that is killed cannot end its worker, which may be in the middle of a block."""
    with speaking(tmp_path / "cache") as agent:
        agent.ask("lease", user="somebody", what="measuring")
        worker = agent.ask("start")["ok"]["worker"]
        agent.ask("release")

        descriptor = open_lock(lock_file())
        held = not try_lock(descriptor)
        agent.ask("end", worker=worker)

        assert held
        assert try_lock(descriptor)
        os.close(descriptor)


def test_who_holds_the_device_cannot_write_on_the_terminal_of_who_waits():
    descriptor = open_lock(lock_file())
    sign(descriptor, "\x1b[2Jmallory\n", "x" * 10_000)
    os.close(descriptor)

    assert holder(lock_file()).startswith("[2Jmallory (process")
    assert len(holder(lock_file())) <= 200


def test_the_same_sources_make_the_same_archive_and_another_source_another_code():
    found = sources()
    changed = {**found, "profiles/agent.py": found["profiles/agent.py"] + b"\n"}

    assert archive(found) == archive(sources())
    assert code_sha256(found) != code_sha256(changed)


BOARD = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"numpy", "tomllib", "tomli"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import profiles.remote_agent
"""


def test_the_agent_starts_where_there_is_nothing_but_python():
    """So that it can say what is missing; Python 3.10 has no tomllib, and a board no tomli."""
    done = subprocess.run([sys.executable, "-c", BOARD], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
