"""What the tests of `pipeline` share; a board's tests run where it cannot be imported."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_job
from known_times import Device
from narrow_times import NarrowDevice

from pipeline.__main__ import app
from pipeline.devices import bench, compare, gating
from pipeline.reporting import console
from profiles import fitness
from profiles.rounds import Sampling

Shoal = Callable[..., tuple[Any, Any, str]]
QUICK = Sampling(block_s=0.002, min_runs=10, laps=3, warm_up_s=0.02, warm_up_cap_s=0.04)


@pytest.fixture
def known_times(monkeypatch: pytest.MonkeyPatch) -> Device:
    """Whatever a bench measures takes as long as the network's size says."""
    made = Device()
    monkeypatch.setattr("pipeline.plans.workbench.measure", made.measure)
    return made


@pytest.fixture
def narrow_times(monkeypatch: pytest.MonkeyPatch) -> NarrowDevice:
    """The same, and in eight bits half as long."""
    made = NarrowDevice()
    for module in ("plans.workbench", "verbs.precision_bench"):
        monkeypatch.setattr(f"pipeline.{module}.measure", made.measure)
    return made


@pytest.fixture
def quick_and_calm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Short blocks, and no verdict about the machine that the tests happen to run on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gating, "PAIRED", QUICK)
    monkeypatch.setattr(fitness, "DISTURBED_LIMIT", 1.0)
    monkeypatch.setattr(compare, "PAIRED", QUICK)
    monkeypatch.setattr(bench, "ALONE", replace(QUICK, block_s=0.0, laps=2))
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)


@pytest.fixture
def shoal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shoal:
    """`shoal("bench", path)` gives (exit code, document or None, stderr)."""

    def run(*arguments: object) -> tuple[Any, Any, str]:
        monkeypatch.setattr(sys, "argv", ["shoal", *(str(one) for one in arguments)])
        with pytest.raises(SystemExit) as ended:
            console.run(app)
        said = capsys.readouterr()
        document = json.loads(said.out) if said.out.startswith("{") else None
        return ended.value.code, document, said.err

    return run


@pytest.fixture(scope="session")
def job(tmp_path_factory: pytest.TempPathFactory) -> tiny_job.Job:
    """The tiny job, run once; whoever changes its workspace copies it first."""
    folder = tmp_path_factory.mktemp("job")
    (folder / "tiny.toml").write_text('precisions = ["fp32", "int8"]' + tiny_job.RECIPE)
    return tiny_job.Job(
        folder, tiny_job.shoal("compress", "tiny.toml", "--out", "work", "--json", cwd=folder)
    )
