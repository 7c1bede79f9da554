"""The console script: what can go wrong before the command line is even imported.

A board without the server extra is told what to install; Ctrl-C is no traceback.
"""

import sys
from importlib import import_module


def main() -> None:
    try:
        command = import_module("pipeline.__main__")
    except KeyboardInterrupt:
        print("shoal: interrupted before anything was begun", file=sys.stderr)
        sys.exit(130)
    except ModuleNotFoundError as e:
        if e.name is None or e.name.split(".")[0] in {"pipeline", "profiles", "runtimes"}:
            raise
        print(
            f"shoal: the command line needs the {e.name!r} package: pip install 'shoal[server]' "
            "(a measuring device needs none of it: `python -m profiles.agent`)",
            file=sys.stderr,
        )
        sys.exit(2)
    command.main()
