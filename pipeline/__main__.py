"""The `shoal` command: one function per verb, no logic.

Each verb builds a document (a frozen dataclass) and hands it to `pipeline.console.finish`.
"""

from pathlib import Path
from typing import Annotated

import typer

from pipeline import bench, compare, console, doctor
from pipeline.console import AsJson, Quiet, Verbose, finish
from pipeline.mapped import map_file, show_map
from pipeline.mapping import MAX_KERNEL
from profiles import agent
from profiles.target import find_target

app = typer.Typer(
    name="shoal",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Make a trained network shallow enough for a latency budget, proved by measuring.",
)

TargetName = Annotated[str, typer.Option("--target", help="See `shoal targets`.")]


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


@app.command("bench")
def bench_verb(
    model: Annotated[Path, typer.Argument(help="An ONNX file.")],
    target: TargetName = "x86-cpu",
    precision: Annotated[str | None, typer.Option(help="What the file is to be.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="The target's by default.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Fresh processes.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the inputs.")] = 0,
    shape: Annotated[list[str] | None, typer.Option(help="INPUT=1x3x224x224")] = None,
    samples: Annotated[Path | None, typer.Option(help="Where to write every sample.")] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,  # noqa: ARG001 - read by console.run
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
    seed: Annotated[int, typer.Option(help="Of the inputs and of the order.")] = 0,
    across: Annotated[list[str] | None, typer.Option(help="Identity that may differ.")] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,  # noqa: ARG001 - read by console.run
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


@app.command("targets")
def targets_verb(
    name: Annotated[str | None, typer.Argument(help="One of them in full.")] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,  # noqa: ARG001 - read by console.run
    quiet: Quiet = False,
) -> None:
    """The devices that can be measured on."""
    finish(lambda _: doctor.targets(name), show=doctor.show_targets, as_json=as_json, quiet=quiet)


@app.command("doctor")
def doctor_verb(
    as_json: AsJson = False,
    verbose: Verbose = False,  # noqa: ARG001 - read by console.run
    quiet: Quiet = False,
) -> None:
    """What this machine can do, proved by doing it."""
    finish(lambda _: doctor.doctor(), show=doctor.show_doctor, as_json=as_json, quiet=quiet)


@app.command("agent")
def agent_verb() -> None:
    """The worker on a device: JSON lines on stdin and stdout."""
    agent.main()


def main() -> None:
    console.run(app)


if __name__ == "__main__":
    main()
