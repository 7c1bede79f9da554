"""A job of seconds on scikit-learn's digits, and the command that runs it as a user would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

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
epochs = 8
batch_size = 50
learning_rate = 0.05

[plan]
kernels = [3, 1]
rounds = 6
max_rounds = 3

[[targets]]
name = "x86-cpu"
budget = "0.9x"

[finetune]
epochs = 3
batch_size = 50
learning_rate = 0.02
"""
VERDICT_CODES = {"PASS": 0, "FAIL": 3, "INCONCLUSIVE": 4}
TIMEOUT_S = 600


def shoal(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_S)


def artifact_of(document: dict[str, Any]) -> Path:
    return Path(document["candidates"][0]["artifacts"][0]["path"])
