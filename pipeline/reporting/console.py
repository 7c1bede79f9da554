"""From a verb's work to its output and exit code.

Exit codes: 0 done or PASS, 1 internal error, 2 input error, 3 gate FAIL, 4 INCONCLUSIVE or
UNFIT, 5 nothing measured, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer
from pydantic import TypeAdapter
from rich.console import Console
from typer.exceptions import Abort, Exit, TyperException

from pipeline.reporting.progress import Reporter
from runtimes.errors import InputError, NothingMeasured

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="A traceback with every error.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no messages.")]

INTERRUPTED = 130  # Typer makes an Exit of it in some versions and an Abort in others
PLAIN_WIDTH = 160  # of a file or a CI log, which have no edge

D = TypeVar("D")


def finish(
    work: Callable[[Reporter], D],
    *,
    show: Callable[[D], Any],
    as_json: bool,
    quiet: bool,
    code: Callable[[D], int] = lambda _: 0,
) -> None:
    """Do the work, print its document (JSON, or what `show` makes of it for rich), exit."""
    document = work(Reporter(quiet=quiet))
    if as_json:
        text = TypeAdapter(type(document)).dump_json(document, indent=2, by_alias=True)
        sys.stdout.write(text.decode() + "\n")
    else:
        width = None if sys.stdout.isatty() else PLAIN_WIDTH
        Console(soft_wrap=True, highlight=False, markup=False, width=width).print(show(document))
    sys.stdout.flush()
    raise typer.Exit(code(document))


def run(app: typer.Typer) -> None:
    """Run the command line; every error ends as one message on stderr and its exit code."""
    verbose = "-v" in sys.argv or "--verbose" in sys.argv
    try:
        code = app(standalone_mode=False)
    except Exit as e:
        code = e.exit_code
    except TyperException as e:
        _complain(e.format_message())
        code = e.exit_code
    except (Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except InputError as e:
        code = _fail(e, 2, verbose)
    except NothingMeasured as e:
        code = _fail(e, 5, verbose)
    except Exception as e:  # the outermost layer: whatever is left is our own defect
        code = _fail(e, 1, verbose)
    if code == INTERRUPTED:
        _complain("interrupted; what was finished is saved (compress: go on with --resume)")
    sys.exit(code or 0)


def _fail(error: Exception, code: int, verbose: bool) -> int:
    if verbose:
        traceback.print_exception(error)
    kind = "" if code != 1 else f"internal error: {type(error).__name__}: "
    _complain(f"{kind}{error}" + ("" if code != 1 or verbose else " (-v shows the traceback)"))
    return code


def _complain(message: str) -> None:
    print(f"shoal: {message}", file=sys.stderr)
