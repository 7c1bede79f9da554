"""The `shoal` command: one function per verb, no logic.

Each verb builds a document (a frozen dataclass) and hands it to `finish` of
`pipeline.reporting.console`.
"""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from pipeline.devices import bench, compare, device_verbs, gate_verbs
from pipeline.mapping import MAX_KERNEL
from pipeline.recipe import DEFAULT, load_recipe
from pipeline.reporting import console
from pipeline.reporting.console import AsJson, Quiet, Verbose, finish
from pipeline.verbs import compressed, export_verb, plan_verb
from pipeline.verbs.collapsed import Wish, collapse_file, show_collapse
from pipeline.verbs.mapped import map_file, show_map
from pipeline.verbs.table_verb import app as table_app
from profiles import agent
from profiles.target import find_target

app = typer.Typer(
    name="shoal",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Make a trained network shallow enough for a latency budget, proved by measuring.",
)

app.add_typer(gate_verbs.app)
app.add_typer(plan_verb.app)
app.add_typer(device_verbs.app)
app.add_typer(export_verb.app)
app.add_typer(table_app)

TargetName = Annotated[str, typer.Option("--target", help="See `shoal targets`.")]


@app.command("map")
def map_verb(
    model: Annotated[Path, typer.Argument(help="An ONNX file.")],
    max_kernel: Annotated[int, typer.Option(min=1, help="Largest merged kernel.")] = MAX_KERNEL,
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Which activations can shorten the network, what each merge costs, why others cannot."""
    finish(
        lambda _: map_file(model, max_kernel=max_kernel),
        show=show_map,
        as_json=as_json,
        quiet=quiet,
    )


@app.command("collapse")
def collapse_verb(
    source: Annotated[Path, typer.Argument(metavar="IN.onnx", help="An ONNX file.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="Where to write.")],
    linearise: Annotated[list[str] | None, typer.Option(help="Site ids, or `all`.")] = None,
    stand_ins: Annotated[Path | None, typer.Option(help="JSON: scale, shift per site.")] = None,
    merge: Annotated[str, typer.Option(help="cheaper, always, or a plan's path.")] = "cheaper",
    move_padding: Annotated[bool, typer.Option("--move-padding", help="Changes borders.")] = False,
    max_kernel: Annotated[int, typer.Option(min=1, help="Largest merged kernel.")] = MAX_KERNEL,
    tolerance: Annotated[float | None, typer.Option(help="Relative RMS; by precision.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the inputs that certify.")] = 0,
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Merge every linear chain exactly; written only if it provably computes the same."""
    wish = Wish(
        linearise=tuple(linearise or ()),
        stand_ins=stand_ins,
        merge=merge,
        move_padding=move_padding,
        max_kernel=max_kernel,
        tolerance=tolerance,
        seed=seed,
    )
    finish(
        lambda reporter: collapse_file(source, out, wish, reporter),
        show=show_collapse,
        as_json=as_json,
        quiet=quiet,
    )


@app.command("compress")
def compress_verb(
    path: Annotated[Path | None, typer.Argument(metavar="RECIPE.toml", help="Your own.")] = None,
    recipe: Annotated[str, typer.Option(help="A built-in one.")] = DEFAULT,
    out: Annotated[Path | None, typer.Option(help="The workspace.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it stopped.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """The whole job: a shallow network that meets its budgets, measured, and a report."""
    job = load_recipe(path or recipe)
    if job.procedure.kind == "iterative":
        iterative = import_module("pipeline.jobs.iterative")
        finish(
            lambda reporter: iterative.compress(
                job, reporter, out=out or job.workspace, resume=resume
            ),
            show=import_module("pipeline.jobs.iterative_document").show_iterative,
            as_json=as_json,
            quiet=quiet,
            code=lambda document: compressed.EXIT_CODES[document.verdict],
        )
    finish(
        lambda reporter: import_module("pipeline.compress").compress(
            job, reporter, out=out or job.workspace, resume=resume
        ),
        show=compressed.show_compress,
        as_json=as_json,
        quiet=quiet,
        code=compressed.exit_code,
    )


@app.command("score")
def score_verb(
    path: Annotated[Path | None, typer.Argument(metavar="RECIPE.toml", help="Your own.")] = None,
    criterion: Annotated[str, typer.Option(help="A file of pipeline/criteria/.")] = "residual",
    variant: Annotated[str | None, typer.Option(help="Of the criterion.")] = None,
    recipe: Annotated[str, typer.Option(help="A built-in one.")] = DEFAULT,
    out: Annotated[Path | None, typer.Option(help="The workspace.")] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """How much every activation matters, by one criterion."""
    job = load_recipe(path or recipe)
    scoring = import_module("pipeline.verbs.scoring")
    finish(
        lambda reporter: scoring.score(
            job,
            reporter,
            criterion=criterion,
            options={"variant": variant} if variant else {},
            out=out or job.workspace,
        ),
        show=scoring.show_score,
        as_json=as_json,
        quiet=quiet,
    )


@app.command("bench")
def bench_verb(
    model: Annotated[Path, typer.Argument(help="An ONNX file.")],
    target: TargetName = "x86-cpu",
    precision: Annotated[str | None, typer.Option(help="What the file is to be.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="The target's by default.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Fresh processes.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of the inputs.")] = 0,
    shape: Annotated[list[str] | None, typer.Option(help="INPUT=1x3x224x224")] = None,
    samples: Annotated[Path | None, typer.Option(help="Where to write every sample.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Time per operator too.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """How long one artifact takes on one target."""
    device = bench.with_batch(find_target(target), batch)
    finish(
        lambda reporter: bench.bench(
            model,
            device,
            reporter,
            precision=precision,
            rounds=rounds,
            seed=seed,
            shapes=bench.parse_shapes(shape or []),
            samples=samples,
            layers=layers,
        ),
        show=bench.show_bench,
        as_json=as_json,
        quiet=quiet,
        code=bench.exit_code,
    )


@app.command("compare")
def compare_verb(
    baseline: Annotated[Path, typer.Argument(help="A, an ONNX file.")],
    candidate: Annotated[Path, typer.Argument(help="B, an ONNX file.")],
    target: TargetName = "x86-cpu",
    margin: Annotated[str, typer.Option(help="Slower by less is not slower.")] = "2%",
    alpha: Annotated[float, typer.Option(help="Chance of a wrong verdict.")] = 0.01,
    rounds: Annotated[int, typer.Option(min=1, help="Most rounds.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of the inputs and of the order.")] = 0,
    across: Annotated[list[str] | None, typer.Option(help="Identity that may differ.")] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Is B slower than A, in paired rounds: PASS, FAIL, INCONCLUSIVE or UNFIT."""
    device = find_target(target)
    finish(
        lambda reporter: compare.compare_files(
            baseline,
            candidate,
            device,
            reporter,
            margin=margin,
            alpha=alpha,
            rounds=rounds,
            seed=seed,
            across=tuple(across or ()),
        ),
        show=compare.show_compare,
        as_json=as_json,
        quiet=quiet,
        code=compare.exit_code,
    )


@app.command("agent")
def agent_verb() -> None:
    """The worker on a device: JSON lines on stdin and stdout."""
    agent.main()


def main() -> None:
    console.run(app)


if __name__ == "__main__":
    main()
