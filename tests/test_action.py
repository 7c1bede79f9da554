"""The composite action, by doing what a runner does: substitute its inputs, run its steps."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
ACTION = ROOT / ".github" / "actions" / "shoal-gate"


@pytest.fixture
def job(tmp_path, make_network):
    """A job's folder with the example's two networks, and `shoal` on its path."""
    make_network("baseline.onnx", convolutions=2)
    make_network("candidate.onnx", convolutions=2)
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    shim = bin_folder / "shoal"
    # The verdict is to depend on the networks, not on what else the test machine is doing,
    # and to come after short rounds.
    shim.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from profiles import fitness\n"
        "from profiles.rounds import Sampling\n"
        "from pipeline import entry\n"
        "from pipeline.devices import bench, gating\n"
        "fitness.DISTURBED_LIMIT = 1.0\n"
        "bench.ALONE = gating.PAIRED = Sampling(0.002, 10, 3, 0.02, 0.04)\n"
        "entry.main()\n"
    )
    shim.chmod(0o755)
    return tmp_path


def run_steps(job, given):
    """(exit code of the first failing step or 0, outputs, step summary)."""
    action = yaml.safe_load((ACTION / "action.yml").read_text())
    inputs = {name: about.get("default", "") for name, about in action["inputs"].items()}
    required = {name for name, about in action["inputs"].items() if about.get("required")}
    assert required <= set(given) <= set(inputs)
    inputs |= {name: str(value) for name, value in given.items()}
    runner = {
        "PATH": f"{job / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}/usr/bin:/bin",
        "HOME": str(job),
        "SHOAL_LEASES": os.environ["SHOAL_LEASES"],
        "GITHUB_ACTIONS": "true",
        "GITHUB_ACTION_PATH": str(ACTION),
        "GITHUB_OUTPUT": str(job / "output.txt"),
        "GITHUB_STEP_SUMMARY": str(job / "summary.md"),
    }
    for step in action["runs"]["steps"]:
        asked = {
            name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda m: inputs[m[1]], value)
            for name, value in step.get("env", {}).items()
        }
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=job, env={**runner, **asked}, check=False, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            return done.returncode, done.stderr
    return 0, (job / "output.txt").read_text()


def test_the_example_runs_as_a_runner_would_run_it(job):
    (example,) = yaml.safe_load((ACTION / "example.yml").read_text())
    assert (ROOT / example["uses"]).resolve() == ACTION

    code, output = run_steps(job, example["with"])

    assert code == 0, output
    assert re.fullmatch(r"verdict=(PASS|INCONCLUSIVE)\n", output)
    assert "shoal gate" in (job / "summary.md").read_text()
    assert (job / "shoal-gate" / "junit.xml").is_file()


def test_a_missed_budget_fails_the_step(job):
    code, said = run_steps(job, {"candidate": "candidate.onnx", "budget": "1us", "rounds": 7})

    assert code == 3
    assert "::error title=shoal FAIL" in said
    assert (job / "output.txt").read_text() == "verdict=FAIL\n"


@pytest.mark.parametrize(("strict", "expected"), [("false", 0), ("true", 4)])
def test_not_knowing_fails_the_step_only_when_strict(job, strict, expected):
    asked = {"candidate": "candidate.onnx", "budget": "50ms", "rounds": 2, "strict": strict}

    code, _ = run_steps(job, asked)

    assert code == expected
    assert (job / "output.txt").read_text() == "verdict=INCONCLUSIVE\n"


def test_a_mistake_in_the_inputs_is_no_verdict(job):
    code, said = run_steps(job, {"candidate": "nothing.onnx", "budget": "5ms"})

    assert code == 2
    assert "does not exist" in said
    assert not (job / "output.txt").exists()
