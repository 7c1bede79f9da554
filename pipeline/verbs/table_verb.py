"""The verb that asks what every option would change: table."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.devices.bench import parse_shapes
from pipeline.mapping import MAX_KERNEL
from pipeline.reporting.console import AsJson, Quiet, Verbose, finish
from pipeline.reporting.table_document import show_table
from pipeline.verbs.tabled import TableWish, table_file

app = typer.Typer()


@app.command("table")
def table_verb(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The network.")],
    target: Annotated[str, typer.Option(help="See `shoal targets`.")],
    out: Annotated[Path | None, typer.Option(help="Where to write it: .json or .csv.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Fresh processes per measurement.")] = 6,
    max_kernel: Annotated[int, typer.Option(min=1, help="Largest merged kernel.")] = MAX_KERNEL,
    shape: Annotated[list[str] | None, typer.Option(help="INPUT=1x3x224x224")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of inputs, weights and order.")] = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure what is known, too.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """What every replacement changes on a target: measured once, kept, and shown again."""
    wish = TableWish(
        model=model,
        target=target,
        out=out,
        rounds=rounds,
        max_kernel=max_kernel,
        seed=seed,
        shapes=parse_shapes(shape or []),
        fresh=fresh,
    )
    finish(
        lambda reporter: table_file(wish, reporter),
        show=show_table,
        as_json=as_json,
        quiet=quiet,
    )
