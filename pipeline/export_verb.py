"""The verb that writes a network in other precisions: export."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from pipeline.console import AsJson, Quiet, Verbose, finish
from pipeline.recipe import DEFAULT

app = typer.Typer()


@app.command("export")
def export_verb(
    source: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE.toml|CHECKPOINT|MODEL.onnx", help="What to export."),
    ] = None,
    precision: Annotated[list[str] | None, typer.Option(help="fp32, fp16, int8; again.")] = None,
    recipe: Annotated[str, typer.Option(help="Of a checkpoint, or a built-in one.")] = DEFAULT,
    target: Annotated[list[str] | None, typer.Option(help="Where it is to run.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="Samples, .npz; of MODEL.onnx.")] = None,
    out: Annotated[Path | None, typer.Option(help="The workspace, or a folder.")] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """ONNX artifacts in fp32, fp16 or int8, each verified before it is delivered."""
    exported = import_module("pipeline.exported")
    document = import_module("pipeline.export_document")
    wish = exported.Wish(
        source=source,
        precisions=tuple(precision or ("fp32",)),
        recipe=recipe,
        targets=tuple(target or ()),
        calibration=calibration,
        out=out,
    )
    finish(
        lambda reporter: exported.export_files(wish, reporter),
        show=document.show_export,
        as_json=as_json,
        quiet=quiet,
        code=document.exit_code,
    )
