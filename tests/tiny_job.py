"""A job of seconds on scikit-learn's digits, and the command that runs it as a user would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipeline.compress import compress
from pipeline.recipe import load_recipe
from pipeline.reporting.documents import CompressDocument
from pipeline.reporting.progress import Reporter

RECIPE = """
name = "tiny"
seed = 0
threads = 1

[model]
spec = "resnet18"
options = { width = 4 }

[data]
dataset = "digits"

[train]
epochs = 5
batch_size = 50
learning_rate = 0.1

[calibration]
images = 100

[plan]
kernels = [1]
rounds = 6
max_rounds = 2

[[targets]]
name = "x86-cpu"
budget = "0.9x"

[finetune]
epochs = 2
batch_size = 50
learning_rate = 0.02
"""
VERDICT_CODES = {"PASS": 0, "FAIL": 3, "INCONCLUSIVE": 4}
TIMEOUT_S = 600


class Log(Reporter):
    """Keeps what is said."""

    def __init__(self):
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


@dataclass(frozen=True)
class Job:
    """A finished job that `shoal compress` ran in a process of its own."""

    folder: Path
    done: subprocess.CompletedProcess[str]

    @property
    def workspace(self) -> Path:
        return self.folder / "work"

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.done.stdout)


def shoal(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_S)


def resumed(folder: Path, recipe: str = RECIPE) -> dict[str, Any]:
    """What the job in `folder / "work"` comes to when it goes on here."""
    (folder / "tiny.toml").write_text(recipe)
    done = compress(
        load_recipe(folder / "tiny.toml"), Reporter(quiet=True), out=folder / "work", resume=True
    )
    return json.loads(TypeAdapter(CompressDocument).dump_json(done))


def kill_when(folder: Path, stage: str, *arguments: str) -> None:
    """Start the job and `kill -9` it as soon as the stage has begun; nothing else survives."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "compress", "tiny.toml", "--out", "work", *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + TIMEOUT_S
    unfinished = folder / "work" / ".unfinished"
    while not list(unfinished.glob(f"{stage}-*")):
        assert process.poll() is None, f"the job ended before its stage {stage}"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def artifact_of(document: dict[str, Any]) -> Path:
    return Path(document["candidates"][0]["artifacts"][0]["path"])
