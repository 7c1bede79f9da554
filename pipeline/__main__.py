"""The `shoal` command: one function per verb, no logic.

Each verb builds a document (a frozen dataclass) and hands it to `pipeline.console.finish`.
"""

from pathlib import Path
from typing import Annotated

import typer

from pipeline import console
from pipeline.console import AsJson, Quiet, Verbose, finish
from pipeline.mapped import map_file, show_map
from pipeline.mapping import MAX_KERNEL

app = typer.Typer(
    name="shoal",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Make a trained network shallow enough for a latency budget, proved by measuring.",
)


@app.command("map")
def map_verb(
    model: Annotated[Path, typer.Argument(help="An ONNX file.")],
    max_kernel: Annotated[int, typer.Option(min=1, help="Largest merged kernel.")] = MAX_KERNEL,
    as_json: AsJson = False,
    verbose: Verbose = False,  # noqa: ARG001 - read by console.run
    quiet: Quiet = False,
) -> None:
    """Which activations can shorten the network, what each merge costs, why others cannot."""
    finish(
        lambda _: map_file(model, max_kernel=max_kernel),
        show=show_map,
        as_json=as_json,
        quiet=quiet,
    )


def main() -> None:
    console.run(app)


if __name__ == "__main__":
    main()
