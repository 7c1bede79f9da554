"""A stage is there whole or not at all, whatever ends the process that makes it."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.workspace import Workspace, write_whole
from runtimes.errors import InputError

OTHER = """
import sys, time
from pathlib import Path
from pipeline.workspace import Workspace

def produce(folder):
    (folder / "half").write_text("one half")
    print("working", flush=True)
    time.sleep(float(sys.argv[2]))
    (folder / "rest").write_text("the rest")

with Workspace(Path(sys.argv[1])) as workspace:
    workspace.stage("plan", {"seed": 1}, produce)
    print("done", flush=True)
    time.sleep(60)
"""


def start(root: Path, produce_s: float) -> subprocess.Popen[str]:
    """Another process that works on the workspace; it has begun to produce on return."""
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(root), str(produce_s)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def fill(folder: Path) -> None:
    (folder / "value").write_text("1")


def refuse(folder: Path) -> None:
    raise AssertionError(f"{folder} would have been made again")


def test_stage_is_made_once(tmp_path):
    with Workspace(tmp_path / "run") as workspace:
        folder = workspace.stage("plan", {"seed": 1}, fill)

        assert workspace.stage("plan", {"seed": 1}, refuse) == folder
        assert (folder / "value").read_text() == "1"


@pytest.mark.parametrize(("name", "key"), [("plan", {"seed": 2}), ("export", {"seed": 1})])
def test_other_inputs_and_other_stages_have_other_folders(tmp_path, name, key):
    with Workspace(tmp_path) as workspace:
        folder = workspace.stage("plan", {"seed": 1}, fill)

        assert workspace.finished(name, key) is None
        assert workspace.stage(name, key, fill) != folder


def test_order_of_the_key_does_not_matter(tmp_path):
    with Workspace(tmp_path) as workspace:
        folder = workspace.stage("plan", {"a": 1, "b": 2}, fill)

        assert workspace.stage("plan", {"b": 2, "a": 1}, refuse) == folder


def test_resume_finds_what_was_finished(tmp_path):
    with Workspace(tmp_path) as workspace:
        folder = workspace.stage("plan", {}, fill)

    with Workspace(tmp_path, resume=True) as workspace:
        assert workspace.stage("plan", {}, refuse) == folder


def test_without_resume_all_but_the_dense_network_is_made_again(tmp_path):
    with Workspace(tmp_path) as workspace:
        dense = workspace.stage("dense", {}, fill)
        workspace.stage("dense-map", {}, fill)

    with Workspace(tmp_path) as workspace:
        assert workspace.finished("dense", {}) == dense
        assert workspace.finished("dense-map", {}) is None


def test_files_of_the_users_own_stay(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")

    with Workspace(tmp_path) as workspace:
        workspace.stage("plan", {}, fill)

    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_stage_that_fails_leaves_nothing(tmp_path):
    def fail(folder: Path) -> None:
        fill(folder)
        raise RuntimeError("halfway")

    with Workspace(tmp_path) as workspace:
        with pytest.raises(RuntimeError, match="halfway"):
            workspace.stage("plan", {}, fail)

        assert workspace.finished("plan", {}) is None
        assert workspace.stage("plan", {}, fill).is_dir()


def test_full_disk_is_named(tmp_path):
    def fail(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    with Workspace(tmp_path) as workspace, pytest.raises(InputError, match="is full; make room"):
        workspace.stage("plan", {}, fail)


def test_process_killed_while_producing_leaves_no_stage(tmp_path):
    end(start(tmp_path, produce_s=60))

    assert list((tmp_path / "stages").iterdir()) == []
    with Workspace(tmp_path, resume=True) as workspace:
        folder = workspace.stage("plan", {"seed": 1}, fill)
        assert not (folder / "half").exists()


def test_process_killed_after_a_stage_leaves_all_of_it(tmp_path):
    process = start(tmp_path, produce_s=0)
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"
    end(process)

    with Workspace(tmp_path, resume=True) as workspace:
        folder = workspace.stage("plan", {"seed": 1}, refuse)
        assert (folder / "half").read_text() + (folder / "rest").read_text() == "one halfthe rest"


@pytest.mark.parametrize("after_s", [0.0, 0.002, 0.005, 0.01, 0.02])
def test_process_killed_at_any_moment_leaves_all_or_nothing(tmp_path, after_s):
    process = start(tmp_path, produce_s=0.005)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=after_s)
    end(process)

    for folder in (tmp_path / "stages").iterdir():
        assert {path.name for path in folder.iterdir()} == {"half", "rest", "stage.json"}


def test_second_process_is_refused_until_the_first_is_gone(tmp_path):
    process = start(tmp_path, produce_s=60)

    with (
        pytest.raises(InputError, match=f"in use by process {process.pid}"),
        Workspace(tmp_path),
    ):
        pass
    end(process)

    with Workspace(tmp_path):
        pass


def test_refused_process_deletes_nothing(tmp_path):
    with Workspace(tmp_path) as workspace:
        folder = workspace.stage("plan", {}, fill)

        with pytest.raises(InputError), Workspace(tmp_path):
            pass

        assert (folder / "value").is_file()


@pytest.mark.parametrize("root", ["file", "file/below", "/proc/nowhere"])
def test_unwritable_workspace_is_refused_before_any_work(tmp_path, root):
    (tmp_path / "file").write_text("")

    with pytest.raises(InputError, match=r"cannot be written: .* with --out"):
        Workspace(tmp_path / root).__enter__()


def test_file_is_replaced_in_one_step(tmp_path):
    path = write_whole(tmp_path / "report.md", "old")

    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "half \ud800")

    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.md"]


def test_a_job_that_fails_before_its_first_stage_leaves_nothing(tmp_path):
    def failing() -> None:
        with Workspace(tmp_path / "new"):
            raise InputError("no such model")

    with pytest.raises(InputError, match="no such model"):
        failing()

    assert list((tmp_path).iterdir()) == []


def test_a_failure_leaves_the_users_own_files_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")

    def failing() -> None:
        with Workspace(tmp_path):
            raise InputError("no such model")

    with pytest.raises(InputError):
        failing()

    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_of_stages_that_is_not_ours_survives_a_fresh_start(tmp_path):
    (tmp_path / "stages" / "of-grief").mkdir(parents=True)

    with Workspace(tmp_path):
        pass

    assert (tmp_path / "stages" / "of-grief").is_dir()


def test_scratch_does_not_outlive_the_job(tmp_path):
    with Workspace(tmp_path) as workspace:
        folder = workspace.scratch("bench")
        (folder / "dense.onnx").write_text("x")

    assert not folder.exists()
