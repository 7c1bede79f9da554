"""The verb that asks what to remove: plan."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from pipeline.devices.bench import parse_shapes
from pipeline.plans.demands import Demands
from pipeline.reporting.console import AsJson, Quiet, Verbose, finish
from pipeline.reporting.plan_document import exit_code, show_plan
from pipeline.verbs.planned import Wish

app = typer.Typer()


@app.command("plan")
def plan_verb(
    model: Annotated[Path | None, typer.Argument(metavar="MODEL.onnx", help="The network.")] = None,
    target: Annotated[list[str] | None, typer.Option(help="See `shoal targets`.")] = None,
    budget: Annotated[list[str] | None, typer.Option(help="5ms, 350us, 0.6x; per target.")] = None,
    scores: Annotated[Path | None, typer.Option(help="JSON of `shoal score`.")] = None,
    source: Annotated[Path | None, typer.Option("--from", help="Measure this plan again.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the plan.")] = None,
    frontier: Annotated[
        int | None, typer.Option(min=2, help="Plans from dense to fastest.")
    ] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="fp32, fp16, int8; give all that may be chosen.")
    ] = None,
    max_rounds: Annotated[int, typer.Option(min=1, help="Plans that are tried.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Fresh processes per measurement.")] = 6,
    max_kernel: Annotated[int | None, typer.Option(min=1, help="Largest merged kernel.")] = None,
    max_macs: Annotated[str | None, typer.Option(help="300M, 1.5G, 0.6x of dense.")] = None,
    max_bytes: Annotated[str | None, typer.Option(help="Of weights: 4MiB, 0.5x.")] = None,
    max_peak_bytes: Annotated[
        str | None, typer.Option(help="Weights and values alive at once, estimated.")
    ] = None,
    max_operators: Annotated[int | None, typer.Option(min=1, help="With weights.")] = None,
    max_removed: Annotated[int | None, typer.Option(min=0, help="Activations.")] = None,
    pin: Annotated[list[str] | None, typer.Option(help="Site or segment that stays.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="Site or segment that must go.")] = None,
    shape: Annotated[list[str] | None, typer.Option(help="INPUT=1x3x224x224")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of inputs, weights and order.")] = 0,
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """The least to remove so that the measured network meets every budget; trains nothing."""
    wish = Wish(
        model=model,
        targets=tuple(target or ()),
        budgets=tuple(budget or ()),
        scores=scores,
        source=source,
        out=out,
        frontier=frontier or 0,
        max_rounds=max_rounds,
        rounds=rounds,
        max_kernel=max_kernel,
        seed=seed,
        shapes=parse_shapes(shape or []),
        demands=Demands(
            max_macs=max_macs,
            max_bytes=max_bytes,
            max_peak_bytes=max_peak_bytes,
            max_operators=max_operators,
            max_removed=max_removed,
            pin=tuple(pin or ()),
            remove=tuple(remove or ()),
        ),
    )
    precisions = import_module("pipeline.graphs.precision").parse_precisions(precision or ())
    planning = import_module("pipeline.verbs.precision_plan")
    finish(
        lambda reporter: planning.plan_in_precisions(wish, precisions, reporter),
        show=show_plan,
        as_json=as_json,
        quiet=quiet,
        code=exit_code,
    )
