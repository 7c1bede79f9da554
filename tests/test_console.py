import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.reporting import console
from runtimes.errors import InputError, NothingMeasured


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted; what was finished is saved"),
        (InputError("no such model"), 2, "shoal: no such model"),
        (NothingMeasured("the worker died"), 5, "shoal: the worker died"),
        (KeyError("oops"), 1, "internal error: KeyError"),
    ],
)
def test_every_end_has_its_exit_code_and_one_message(raised, code, message, monkeypatch, capsys):
    app = typer.Typer()

    @app.command()
    def verb() -> None:
        raise raised

    monkeypatch.setattr(sys, "argv", ["shoal"])

    with pytest.raises(SystemExit) as ended:
        console.run(app)

    said = capsys.readouterr().err
    assert ended.value.code == code
    assert message in said
    assert "Traceback" not in said


INTERRUPTED = """
import sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "pipeline.__main__":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupts())
from pipeline.entry import main
main()
"""


def test_an_interruption_while_everything_is_imported_is_no_traceback():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True)

    assert done.returncode == 130
    assert done.stderr == "shoal: interrupted before anything was begun\n"


@pytest.mark.parametrize("verb", ["plan", "table", "bench", "compare", "collapse"])
def test_a_seed_below_nought_is_refused_at_once(verb):
    done = CliRunner().invoke(app, [verb, "a.onnx", "b.onnx", "--seed", "-1"])

    assert done.exit_code == 2
    assert "--seed" in done.output
