"""The `shoal` command: one function per verb, no logic.

Each verb builds a document (a frozen dataclass) and hands it to `pipeline.console.finish`.
"""

import typer

from pipeline import console

app = typer.Typer(
    name="shoal",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Make a trained network shallow enough for a latency budget, proved by measuring.",
)


def main() -> None:
    console.run(app)


if __name__ == "__main__":
    main()
