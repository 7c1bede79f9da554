"""The verbs that put out what is there: export, report, schema."""

import json
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from pipeline.recipe import DEFAULT
from pipeline.report import show_report
from pipeline.reporting.console import AsJson, Quiet, Verbose, finish
from pipeline.verbs.schemas import schema_of

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
    exported = import_module("pipeline.verbs.exported")
    document = import_module("pipeline.verbs.export_document")
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


@app.command("report")
def report_verb(
    folder: Annotated[Path, typer.Argument(help="The folder of a finished `shoal compress`.")],
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Make the report of a job again, from the JSON that it left."""
    finish(
        lambda _: import_module("pipeline.verbs.remaking").remake(folder),
        show=show_report,
        as_json=as_json,
        quiet=quiet,
    )


@app.command("schema")
def schema_verb(
    name: Annotated[str, typer.Argument(help="A verb, or `recipe`.")],
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """The JSON schema of what a verb prints, or of the recipe."""
    finish(
        lambda _: schema_of(name),
        show=lambda schema: Text(json.dumps(schema, indent=2)),
        as_json=as_json,
        quiet=quiet,
    )
