"""Imports point one way, torch stays in `pipeline`, and the packages are ours.

A board installs `runtimes` and `profiles` with numpy and one SDK: one import in the wrong direction
would make it need torch.
"""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
import tomllib

import runtimes.base

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "runtimes": {"runtimes"},
    "profiles": {"runtimes", "profiles"},
    "pipeline": {"runtimes", "profiles", "pipeline"},
}
# A folder of `pipeline` and the files above it that lead into it; each may import those before it.
AREAS = (
    "__init__ workspace",
    "graphs mapping",
    "reporting report",
    "networks datasets models",
    "edits activations linearise finetune export verify",
    "criteria",
    "collapse",
    "plans planning feedback",
    "recipe_tables recipe",
    "jobs",
    "devices",
    "verbs compress",
    "entry __main__",
)
SERVER_ONLY = {"torch", "torchvision", "onnx", "onnx_ir", "onnxscript", "pydantic", "typer", "rich"}
TOP_LEVEL = {*MAY_IMPORT, "tests", "docker", "README.md", "pyproject.toml", "LICENSE"}


def imported(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            # f"runtimes.{name}": what stands before the first brace decides
            yield ast.unparse(node.args[0]).lstrip("f").strip("'\"").partition("{")[0]


def wrong_imports(root: Path) -> list[str]:
    """Every import in a source tree that points up, is relative, or brings torch to a board."""
    wrong = []
    for package, allowed in MAY_IMPORT.items():
        for path in sorted((root / package).rglob("*.py")):
            for name in imported(path.read_text(encoding="utf-8")):
                top = name.partition(".")[0]
                points_up = top in MAY_IMPORT and top not in allowed
                heavy = package != "pipeline" and top in SERVER_ONLY
                if points_up or heavy or name.startswith(".") or top == "tests":
                    wrong.append(f"{path.relative_to(root)} imports {name}")
    return wrong


def test_imports_point_one_way_and_torch_is_in_pipeline_alone():
    assert wrong_imports(ROOT) == []


@pytest.mark.parametrize(
    ("path", "source", "caught"),
    [
        ("runtimes/ort.py", "import torch", True),
        ("runtimes/ort.py", "def load():\n    import torch.nn as nn", True),
        ("runtimes/ort.py", "from profiles.target import Target", True),
        ("profiles/agent.py", "from pipeline import export", True),
        ("profiles/deep/er.py", "import_module('torch')", True),
        ("profiles/agent.py", "import_module(f'pipeline.{name}')", True),
        ("profiles/agent.py", "from . import target", True),
        ("pipeline/export.py", "from tests.helpers import model", True),
        ("profiles/agent.py", "from runtimes.base import Runtime", False),
        ("profiles/agent.py", "import_module(f'runtimes.{name}')", False),
        ("pipeline/export.py", "import torch\nfrom profiles.target import Target", False),
        ("runtimes/ort.py", "import onnxruntime\nimport numpy", False),
    ],
)
def test_guard_of_the_imports_can_fail(tmp_path, path, source, caught):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source)

    assert bool(wrong_imports(tmp_path)) is caught


def against_the_order(root: Path) -> list[str]:
    """Every import of `pipeline` that points to a later area, and every file that is in none."""
    place = {name: at for at, area in enumerate(AREAS) for name in area.split()}
    wrong = []
    for path in sorted((root / "pipeline").rglob("*.py")):
        own = path.relative_to(root / "pipeline").with_suffix("").parts[0]
        if own not in place:
            wrong.append(f"{path.relative_to(root)} is in no area")
            continue
        for name in imported(path.read_text(encoding="utf-8")):
            package, _, rest = name.partition(".")
            area = rest.partition(".")[0]
            if package == "pipeline" and place.get(area, len(AREAS)) > place[own]:
                wrong.append(f"{path.relative_to(root)} imports {name}")
    return wrong


def test_folders_of_pipeline_import_one_way():
    assert against_the_order(ROOT) == []


@pytest.mark.parametrize(
    ("path", "source", "caught"),
    [
        ("plans/caps.py", "from pipeline.jobs.job import Job", True),
        ("plans/caps.py", "def later():\n    import pipeline.jobs.job", True),
        ("plans/caps.py", "import_module('pipeline.jobs.job')", True),
        ("planning.py", "from pipeline import compress", True),
        ("plans/caps.py", "from pipeline.nowhere import thing", True),
        ("stray.py", "", True),
        ("utils/strings.py", "", True),
        ("jobs/job.py", "from pipeline.plans.caps import Cap", False),
        ("plans/caps.py", "from pipeline import planning", False),
        ("planning.py", "from pipeline.plans.caps import Cap", False),
    ],
)
def test_guard_of_the_folders_can_fail(tmp_path, path, source, caught):
    (tmp_path / "pipeline" / path).parent.mkdir(parents=True)
    (tmp_path / "pipeline" / path).write_text(source)

    assert bool(against_the_order(tmp_path)) is caught


def circle(root: Path) -> list[str]:
    """The modules of one import circle, or none; an import inside a function counts."""
    modules = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for package in MAY_IMPORT
        for path in (root / package).rglob("*.py")
    }
    graph = {}
    for module, path in modules.items():
        names = imported(path.read_text(encoding="utf-8"))
        found = {name if name in modules else name.rpartition(".")[0] for name in names}
        graph[module] = found & modules.keys() - {module}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as e:
        return e.args[1]
    return []


def test_no_module_is_in_an_import_circle():
    assert circle(ROOT) == []


@pytest.mark.parametrize(
    ("device", "board", "caught"),
    [
        ("from profiles import board", "from profiles.device import Reading", True),
        ("import_module('profiles.board')", "import profiles.device", True),
        ("from profiles import board", "from profiles.readings import Reading", False),
    ],
)
def test_guard_of_the_circles_can_fail(tmp_path, device, board, caught):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/device.py").write_text(device)
    (tmp_path / "profiles/board.py").write_text(board)

    assert bool(circle(tmp_path)) is caught


def test_import_of_a_board_brings_no_server_package():
    modules = [
        f"{package}.{path.stem}"
        for package in ("runtimes", "profiles")
        for path in sorted((ROOT / package).glob("*.py"))
        if path.stem not in ("__init__", *runtimes.base.names())
    ]
    # A device's SDK may be missing here (pycuda); what an adapter's SDK itself imports is its own.
    code = (
        "import sys, importlib\n"
        f"for name in {modules}:\n"
        "    try: importlib.import_module(name)\n"
        "    except ModuleNotFoundError as e:\n"
        f"        if e.name.split('.')[0] in {SERVER_ONLY | set(MAY_IMPORT)}: raise\n"
        f"print(sorted(set(sys.modules) & {SERVER_ONLY}))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)

    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def strangers(root: Path) -> list[str]:
    """What lies at the top level and is neither known nor a dot-file nor ignored by git."""
    names = {path.name for path in root.iterdir() if not path.name.startswith(".")}
    ignored = {"build", "dist", "shoal-runs", "__pycache__"}
    return sorted(n for n in names - TOP_LEVEL - ignored if not n.endswith(".egg-info"))


def test_top_level_holds_what_is_agreed():
    assert strangers(ROOT) == []


def test_guard_of_the_top_level_can_fail(tmp_path):
    (tmp_path / "setup.py").write_text("")
    (tmp_path / "README.md").write_text("")
    (tmp_path / ".gitignore").write_text("")

    assert strangers(tmp_path) == ["setup.py"]


@pytest.mark.parametrize("package", list(MAY_IMPORT))
def test_package_is_ours_and_not_shadowed(package):
    found = importlib.import_module(package).__file__

    assert found is not None
    assert Path(found).resolve() == ROOT / package / "__init__.py"


@pytest.mark.parametrize("package", list(MAY_IMPORT))
def test_no_module_shadows_the_standard_library(package):
    shadowing = [
        path.name
        for path in (ROOT / package).rglob("*.py")
        if path.stem in {"select", "profile", "types", "token", "signal", "queue", "code", "random"}
    ]

    assert shadowing == []


def long_files(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root)}: {lines} lines"
        for package in MAY_IMPORT
        for path in sorted((root / package).rglob("*.py"))
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 300
    ]


def test_no_file_is_longer_than_three_hundred_lines():
    assert long_files(ROOT) == []


def test_guard_of_the_length_can_fail(tmp_path):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/long.py").write_text("x = 1\n" * 301)

    assert long_files(tmp_path) == ["profiles/long.py: 301 lines"]


def test_tests_are_flat_and_no_package():
    below = {path.relative_to(ROOT / "tests").parts[0] for path in ROOT.glob("tests/*/**/*.py")}

    assert not list(ROOT.glob("tests/**/__init__.py"))
    assert below <= {"benchmarks"}


def test_base_install_needs_numpy_alone():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    needed = [line for line in project["dependencies"] if "python_version <" not in line]
    assert [line.partition(">")[0] for line in needed] == ["numpy"]
    assert project["requires-python"] == ">=3.10"


WITHOUT_SERVER = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
sys.argv = ["shoal", "doctor"]
from pipeline.entry import main
main()
"""


def test_shoal_without_the_server_extra_says_what_to_install():
    code = WITHOUT_SERVER.format(names=SERVER_ONLY | {"click"})

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)

    assert done.returncode == 2
    assert "pip install 'shoal[server]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
