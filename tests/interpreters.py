"""The tests of `runtimes` and `profiles` on every Python that they are for and that is here.

    python tests/interpreters.py [3.10 ...]     a fresh environment for each, without torch

A board's Python is its system's: 3.10 with numpy 1.26 on JetPack 6, 3.12 on JetPack 7. What is
not here is named and is no failure. The release that this script runs on is left out unless it is
asked for or the only one here: the whole suite runs there, but with torch. Each environment has
shoal as a board installs it, and the newest ONNX Runtime and OpenVINO that its Python can have.

What takes seconds a test and is the client's side runs on 3.10 alone, the oldest: devices behind a
real sshd.

nox and tox look on PATH only, where pyenv's shims answer for versions that do not start.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parent
NUMPY = {"3.10": "numpy==1.26.*", "3.11": "numpy>=2", "3.12": "numpy==1.26.*", "3.13": "numpy>=2"}
PACKAGES = ("onnx", "onnxruntime", "openvino", "pytest", "hypothesis", "scipy", "nvidia-ml-py")
OLDEST = "3.10"
OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"
SSHD = "loopback_sshd"
# tomllib: the tests of the project's own files run where they are developed, on 3.11 or newer
SERVER_ONLY = {"pipeline", "torch", "torchvision", "transformers", "tiny_job", "tomllib"}


def for_boards(tests: Path = TESTS, *, sshd: bool = True) -> list[Path]:
    """The tests of `runtimes` and `profiles` that need nothing of the server's, nor an sshd."""
    found = {path: imports(path) | borrowed(path) for path in sorted(tests.glob("test_*.py"))}
    return [
        path
        for path, names in found.items()
        if names & {"runtimes", "profiles"}
        and not names & SERVER_ONLY
        and (sshd or SSHD not in names)
    ]


def imports(path: Path) -> set[str]:
    """Top-level names, those that our own modules beside it import included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    beside = (path.parent / f"{name}.py" for name in found)
    return found.union(*(imports(one) for one in beside if one.is_file()))


def borrowed(path: Path) -> set[str]:
    """`pipeline` where a test takes a fixture that imports it."""
    shared = ast.parse((TESTS / "server_fixtures.py").read_text(encoding="utf-8")).body
    fixtures = {node.name for node in shared if isinstance(node, ast.FunctionDef)}
    asked: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            asked |= {argument.arg for argument in node.args.args}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "usefixtures":
            asked |= {str(a.value) for a in node.args if isinstance(a, ast.Constant)}
    return {"pipeline"} if asked & fixtures else set()


def find(release: str) -> str | None:
    """An interpreter that starts and is of that release."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    here = shutil.which(f"python{release}")
    for candidate in [*([here] if here else []), *pyenv.glob(f"{release}.*/bin/python")]:
        question = "import sys; print('%d.%d' % sys.version_info[:2])"
        said = subprocess.run([candidate, "-c", question], capture_output=True, text=True)
        if said.returncode == 0 and said.stdout.strip() == release:
            return str(candidate)
    return None


def passes(interpreter: str, release: str) -> bool:
    """Whether the tests pass there, in an environment of their own."""
    with tempfile.TemporaryDirectory(prefix="shoal-python-") as folder:
        subprocess.run([interpreter, "-m", "venv", folder], check=True)
        python = f"{folder}/bin/python"
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        subprocess.run([*pip, str(TESTS.parent), NUMPY[release], *PACKAGES], check=True)
        listed = [python, "-m", "pip", "--disable-pip-version-check", "list", "--format=freeze"]
        said = subprocess.run(listed, capture_output=True, text=True, check=True).stdout
        mine = ("numpy=", "onnxruntime=", "openvino=")
        print(*(line for line in said.splitlines() if line.startswith(mine)), flush=True)
        tests = for_boards(sshd=release == OLDEST)
        asked = [python, "-m", "pytest", "-p", "no:cacheprovider", *map(str, tests)]
        return subprocess.run(asked, cwd=TESTS.parent).returncode == 0


def main(asked: list[str]) -> str | int:
    found = {release: find(release) for release in asked or NUMPY if release != OWN or asked}
    if not asked and not any(found.values()):
        found[OWN] = sys.executable
    outcomes = {}
    for release, interpreter in found.items():
        print(f"== python {release}: {interpreter or 'not here'}", flush=True)
        if interpreter is not None:
            outcomes[release] = passes(interpreter, release)
    if not outcomes:
        return f"no interpreter of {', '.join(asked or NUMPY)} is here: nothing was run"
    failed = [release for release, passed in outcomes.items() if not passed]
    print(f"ran on python {', '.join(outcomes)}")
    return f"failed on python {', '.join(failed)}" if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
