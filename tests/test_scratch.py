"""The folder that variants are built in outlives no process for long."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline.plans.scratch import scratch

ROOT = Path(__file__).resolve().parent.parent
KILLED = """
import os, signal
from pipeline.plans.scratch import scratch
with scratch() as folder:
    (folder / "large.onnx").write_bytes(b"x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_it_is_gone_with_its_process(place):
    with scratch() as folder:
        assert list(place.iterdir()) == [folder]

    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next(place):
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=ROOT)
    (left,) = place.iterdir()
    assert (done.returncode, (left / "large.onnx").exists()) == (-9, True)

    with scratch() as folder:
        assert list(place.iterdir()) == [folder]


def test_what_is_in_use_or_being_made_stays(place):
    unfinished = place / "shoal-plan-unfinished"
    unfinished.mkdir()

    with scratch() as first, scratch() as second:
        assert sorted(place.iterdir()) == sorted([unfinished, first, second])
