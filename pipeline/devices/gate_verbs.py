"""The verbs of a repository that guards its latency: gate, promote, calibrate."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.devices import calibrate, gate, promote
from pipeline.devices.bench import with_batch
from pipeline.devices.compare import parse_share
from pipeline.devices.gating import Job
from pipeline.reporting.console import AsJson, Quiet, Verbose, finish
from profiles.gate import planned
from profiles.target import find_target

app = typer.Typer()

Margin = Annotated[str, typer.Option(help="Slower by less is not slower.")]
Alpha = Annotated[float, typer.Option(help="Chance of a wrong verdict.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the inputs and of the order.")]
DEFAULT_TARGET = "x86-cpu"


@app.command("gate")
def gate_verb(
    baseline: Annotated[list[str] | None, typer.Option(help="ONNX file or promoted name.")] = None,
    candidate: Annotated[list[Path] | None, typer.Option(help="ONNX file.")] = None,
    target: Annotated[list[str] | None, typer.Option(help="See `shoal targets`.")] = None,
    budget: Annotated[list[str] | None, typer.Option(help="5ms, 350us, 0.6x.")] = None,
    predictions: Annotated[list[Path] | None, typer.Option(help="Twice: A's, then B's.")] = None,
    margin: Margin = "2%",
    accuracy_margin: Annotated[str, typer.Option(help="Loss that is accepted.")] = "0.5%",
    drift_limit: Annotated[float, typer.Option(help="Relative RMS between targets.")] = 1e-3,
    alpha: Alpha = 0.01,
    rounds: Annotated[int, typer.Option(min=1, help="Most rounds.")] = 20,
    across: Annotated[list[str] | None, typer.Option(help="Identity that may differ.")] = None,
    absolute: Annotated[bool, typer.Option("--absolute", help="Against stored numbers.")] = False,
    confirm: Annotated[bool, typer.Option(help="Run a FAIL again.")] = True,
    batch: Annotated[int | None, typer.Option(min=1, help="The target's by default.")] = None,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Where the files go.")] = Path("shoal-gate"),
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """PASS, FAIL, INCONCLUSIVE or UNFIT for CI: latency, budget, accuracy, drift."""
    job = Job(
        baselines=baseline or (),
        candidates=candidate or (),
        targets=[with_batch(find_target(name), batch) for name in target or [DEFAULT_TARGET]],
        budgets=budget or (),
        predictions=predictions or (),
        across=across or (),
        accuracy_margin=parse_share(accuracy_margin),
        drift_limit=drift_limit,
        absolute=absolute,
        confirm=confirm,
        rule=planned(parse_share(margin), alpha, rounds),
        seed=seed,
    )
    finish(
        lambda reporter: gate.gate(job, out, reporter),
        show=gate.show_gate,
        as_json=as_json,
        quiet=quiet,
        code=gate.exit_code,
    )


@app.command("promote")
def promote_verb(
    model: Annotated[Path, typer.Argument(help="An ONNX file.")],
    target: Annotated[str, typer.Option(help="See `shoal targets`.")] = DEFAULT_TARGET,
    name: Annotated[str | None, typer.Option(help="The file's stem by default.")] = None,
    note: Annotated[str | None, typer.Option(help="Kept with it.")] = None,
    samples: Annotated[Path | None, typer.Option(help="From `bench --samples`.")] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Keep an artifact and its measurement as the baseline of a name."""
    device = find_target(target)
    finish(
        lambda reporter: promote.promote(
            model, device, reporter, name=name, note=note, samples=samples
        ),
        show=promote.show_promote,
        as_json=as_json,
        quiet=quiet,
    )


@app.command("calibrate")
def calibrate_verb(
    model: Annotated[Path, typer.Argument(help="An ONNX file, compared with itself.")],
    target: Annotated[str, typer.Option(help="See `shoal targets`.")] = DEFAULT_TARGET,
    gates: Annotated[int, typer.Option(min=1, help="A/A gates.")] = 40,
    rounds: Annotated[int, typer.Option(min=7, help="Per gate.")] = 10,
    margin: Margin = "2%",
    alpha: Alpha = 0.01,
    seed: Seed = 0,
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """The gate's noise floor, false alarms and power on a target."""
    device = find_target(target)
    finish(
        lambda reporter: calibrate.calibrate_target(
            device,
            model,
            reporter,
            gates=gates,
            rounds=rounds,
            margin=parse_share(margin),
            alpha=alpha,
            seed=seed,
        ),
        show=calibrate.show_calibrate,
        as_json=as_json,
        quiet=quiet,
        code=calibrate.exit_code,
    )
