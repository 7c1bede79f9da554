"""`shoal calibrate`: what the gate is worth on a target, from comparing a network with itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from pipeline.reporting.progress import Reporter
from profiles.calibration import MOST_ROUNDS, Calibration, Rate, calibrate
from profiles.gate import Rule
from profiles.store import Store, registry_folder
from profiles.target import Target


@dataclass(frozen=True, slots=True)
class CalibrateDocument:
    schema: str
    margin: float
    alpha: float
    calibration: Calibration
    registry: str | None  # null: most gates were unfit, so it was not kept


def calibrate_target(
    target: Target,
    model: Path,
    reporter: Reporter,
    *,
    gates: int,
    rounds: int,
    margin: float,
    alpha: float,
    seed: int,
) -> CalibrateDocument:
    """Run the gates and keep the result in the registry, where `shoal gate` finds it.

    What a disturbed host showed is shown, not kept: it says nothing of the target.
    """
    rule = Rule(margin, alpha, (rounds,))
    with reporter.task(f"A/A gates on {target.name}", gates) as step:
        found = calibrate(
            target, model, gates=gates, rule=rule, seed=seed, on_gate=lambda _done: step(1),
            say=reporter.say,
        )  # fmt: skip
    if mostly_unfit(found):
        return CalibrateDocument("shoal.calibrate/1", margin, alpha, found, None)
    store = Store(registry_folder())
    try:
        store.keep_calibration(target.name, json.dumps(asdict(found)))
    finally:
        store.close()
    return CalibrateDocument("shoal.calibrate/1", margin, alpha, found, str(store.folder))


def mostly_unfit(found: Calibration) -> bool:
    return 2 * found.unfit_gates > found.gates


def exit_code(document: CalibrateDocument) -> int:
    """4 when most gates were unfit: the numbers are there to be looked at, not to be used."""
    return 4 if mostly_unfit(document.calibration) else 0


def show_calibrate(document: CalibrateDocument) -> Table:
    found = document.calibration
    kind = "TRIPWIRE ONLY" if found.tripwire_only else "a gate"
    if mostly_unfit(found):
        kind = "UNFIT, stop what else runs and calibrate again; as it was,"
    table = Table(title=f"{found.target}: {kind} at margin {document.margin:.1%}",
                  show_header=False)  # fmt: skip
    table.add_row("noise floor", f"{found.noise_floor:.2%}")
    table.add_row("spread of a round", f"{found.round_spread:.2%}")
    table.add_row("false alarms at the margin", _share(found.false_alarms))
    table.add_row("false alarms at margin 0", _share(found.false_alarms_at_zero))
    for one in found.rounds_needed:
        rounds = f"{one.rounds} rounds" if one.rounds else f"more than {MOST_ROUNDS} rounds"
        table.add_row(f"{one.power:.0%} power at +{one.effect:.0%}", rounds)
    table.add_row("evidence", f"{found.gates} gates of {found.rounds_per_gate} rounds, "
                              f"{found.unfit_gates} of them unfit")  # fmt: skip
    return table


def _share(rate: Rate) -> str:
    return f"{rate.share:.1%} [{rate.lo:.1%}, {rate.hi:.1%}]"
