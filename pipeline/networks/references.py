"""`package.module:function` of the user's own: installed, in the working folder or the recipe's.

A recipe names code this way for a model and for a data set; what it names is called with those of
the offered arguments that it takes, so that a plain `def make(): ...` is enough.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from runtimes.errors import InputError


def resolve(reference: str, *, folders: Sequence[Path] = ()) -> Callable[..., Any]:
    """The callable that `package.module:function` names."""
    module_name, _, path = reference.partition(":")
    if not module_name or not path:
        raise InputError(f"{reference!r} is no reference: write package.module:function")
    with _importable([Path.cwd(), *folders]):
        try:
            found: Any = import_module(module_name)
        except ModuleNotFoundError as e:
            if e.name is None or not f"{module_name}.".startswith(f"{e.name}."):
                raise InputError(f"{reference!r} cannot be imported: {e}") from e
            places = ", ".join(str(folder) for folder in (Path.cwd(), *folders))
            raise InputError(
                f"there is no module {module_name!r} (of {reference!r}): it is neither installed "
                f"nor in {places}"
            ) from e
        except Exception as e:  # the user's module raises whatever it likes at import
            raise InputError(f"importing {module_name!r} failed: {type(e).__name__}: {e}") from e
    for part in path.split("."):
        if part not in dir(found):
            functions = [n for n in dir(found) if n[0] != "_" and callable(getattr(found, n))]
            raise InputError(
                f"module {module_name!r} has no {part!r}; "
                f"it has: {', '.join(functions) or 'nothing'}"
            )
        found = getattr(found, part)
    if not callable(found):
        raise InputError(f"{reference!r} is a {type(found).__name__}, not a function")
    return found


def call(
    name: str,
    function: Callable[..., Any],
    *,
    offered: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Any:
    """Call with those of `offered` that it takes, and with all of `options`, which it must take."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # compiled code without a signature
        parameters = ()
    takes_any = not parameters or any(p.kind is p.VAR_KEYWORD for p in parameters)
    takes = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    for option in options:
        if option not in takes and not takes_any:
            raise InputError(
                f"{name!r} takes no option {option!r}; "
                f"it takes: {', '.join(sorted(takes)) or 'none'}"
            )
    given = {**{key: value for key, value in offered.items() if key in takes}, **options}
    needed = {p.name for p in parameters if p.default is p.empty and p.name in takes}
    if missing := needed - given.keys():
        raise InputError(f"{name!r} needs {', '.join(sorted(missing))}: give it under options")
    try:
        return function(**given)
    except Exception as e:  # the user's function, or a value that ours cannot take
        shown = ", ".join(f"{key}={value!r}" for key, value in given.items())
        raise InputError(f"{name!r} failed when called with ({shown}): {e!r}") from e


@contextmanager
def _importable(folders: Sequence[Path]):
    # Appended: a user's folder must not shadow the packages of this project.
    added = [str(folder) for folder in folders if str(folder) not in sys.path]
    sys.path.extend(added)
    try:
        yield
    finally:
        for entry in added:
            sys.path.remove(entry)
