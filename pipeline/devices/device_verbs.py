"""The verbs about devices: targets and doctor."""

from typing import Annotated

import typer

from pipeline.devices import checking, doctor, proving
from pipeline.reporting.console import AsJson, Quiet, Verbose, finish

app = typer.Typer()


@app.command("targets")
def targets_verb(
    name: Annotated[str | None, typer.Argument(help="One in full; or `check`, then one.")] = None,
    checked: Annotated[str | None, typer.Argument(metavar="[check NAME]")] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """The devices that can be measured on; `targets check NAME` tries one, link by link.

    The links: reach, python, sdk, lease, run, state, noise. Exit code 5 where one up to `run`
    broke, 4 where the device would give unfit numbers.
    """
    device = checking.chosen(name, checked)
    if device is not None:
        finish(
            lambda reporter: checking.check(device, reporter),
            show=checking.show_check,
            as_json=as_json,
            quiet=quiet,
            code=checking.exit_code,
        )
    finish(lambda _: doctor.targets(name), show=doctor.show_targets, as_json=as_json, quiet=quiet)


@app.command("doctor")
def doctor_verb(
    target: Annotated[str | None, typer.Option(help="See `shoal targets`.")] = None,
    prove: Annotated[bool, typer.Option("--prove", help="Check what a target computes.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """What this machine can do, proved by doing it; or, with --target T --prove, a target."""
    if prove or target is not None:
        device = proving.chosen(target, prove)
        finish(
            lambda reporter: proving.prove(device, reporter),
            show=proving.show_proof,
            as_json=as_json,
            quiet=quiet,
            code=proving.exit_code,
        )
    finish(lambda _: doctor.doctor(), show=doctor.show_doctor, as_json=as_json, quiet=quiet)
