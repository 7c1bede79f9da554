"""The script that runs the boards' tests on every Python, as far as it can be wrong by itself."""

import sys

import interpreters
import pytest


def test_the_tests_of_a_board_are_found_and_those_of_the_server_are_not():
    names = {path.stem for path in interpreters.for_boards()}

    assert {"test_worker", "test_runtimes", "test_sampling", "test_jetson"} <= names
    assert not {"test_finetune", "test_checking", "test_compress", "test_layout"} & names


@pytest.mark.parametrize(
    ("test", "beside", "chosen"),
    [
        ("from profiles import lease", "", True),
        ("from profiles import lease\nimport torch", "", False),
        ("from profiles import lease\nfrom beside import job", "import pipeline.jobs.job", False),
        ("from profiles import lease\nfrom beside import job", "import json", True),
        ("import json", "", False),
    ],
)
def test_what_a_test_imports_decides(tmp_path, test, beside, chosen):
    (tmp_path / "test_one.py").write_text(test)
    (tmp_path / "beside.py").write_text(beside)

    assert bool(interpreters.for_boards(tmp_path)) is chosen


def test_what_every_test_shares_needs_nothing_of_the_server():
    assert not interpreters.imports(interpreters.TESTS / "conftest.py") & interpreters.SERVER_ONLY


def test_the_interpreter_of_the_whole_suite_is_not_asked_again(monkeypatch):
    tried = []
    monkeypatch.setattr(interpreters, "find", lambda release: f"python{release}")
    monkeypatch.setattr(interpreters, "passes", lambda python, _release: not tried.append(python))

    interpreters.main([])

    boards = [f"3.{minor}" for minor in range(10, 14)]
    assert tried == [f"python{release}" for release in boards if release != interpreters.OWN]


def test_a_shim_that_does_not_start_is_no_interpreter(tmp_path, monkeypatch):
    shim = tmp_path / "python3.10"
    shim.write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))

    assert interpreters.find("3.10") is None


def test_an_interpreter_of_another_release_is_not_taken(tmp_path, monkeypatch):
    (tmp_path / "python3.9").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))

    assert interpreters.find("3.9") is None


def test_nothing_run_is_a_failure(monkeypatch):
    monkeypatch.setattr(interpreters, "find", lambda _release: None)

    assert "nothing was run" in str(interpreters.main(["3.10"]))


def test_where_no_other_python_is_here_its_own_runs_without_torch(monkeypatch):
    tried = []
    monkeypatch.setattr(interpreters, "find", lambda _release: None)
    monkeypatch.setattr(interpreters, "passes", lambda *asked: not tried.append(asked))

    assert interpreters.main([]) == 0
    assert tried == [(sys.executable, interpreters.OWN)]


def test_one_failure_is_told_after_all_have_run(monkeypatch):
    monkeypatch.setattr(interpreters, "find", lambda release: f"python{release}")
    monkeypatch.setattr(interpreters, "passes", lambda python, _release: python != "python3.10")

    assert interpreters.main(["3.10", "3.12"]) == "failed on python 3.10"
