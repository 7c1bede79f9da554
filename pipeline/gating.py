"""One model on one target: measure what its checks need, and check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.bench import measure_alone
from pipeline.progress import Reporter
from profiles import checks
from profiles.budget import parse_budget
from profiles.checks import Check
from profiles.fitness import judge
from profiles.gate import FAIL, INCONCLUSIVE, PAIRED, Rule, compare
from profiles.inspection import outputs_of
from profiles.measurement import Measurement
from profiles.store import Baseline, Store, registry_folder
from profiles.target import Target
from runtimes.errors import InputError

ANOTHER_SEED = 1_000_003


@dataclass(frozen=True, slots=True)
class Job:
    """What a gate is asked; models go in pairs, and so do targets and budgets."""

    baselines: Sequence[str] = ()  # paths, or names in the registry
    candidates: Sequence[Path] = ()
    targets: Sequence[Target] = ()
    budgets: Sequence[str] = ()
    predictions: Sequence[Path] = ()  # the baseline's and the candidate's
    across: Sequence[str] = ()  # identity that may differ, because it is the question
    accuracy_margin: float = 0.005
    drift_limit: float = 1e-3
    absolute: bool = False  # against the stored numbers, without measuring the baseline again
    confirm: bool = True  # a FAIL blocks only when a second run fails too
    rule: Rule = field(default_factory=Rule)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.baselines and len(self.baselines) != len(self.candidates):
            raise InputError(
                f"{len(self.baselines)} --baseline for {len(self.candidates)} --candidate: "
                "give one of each per model, in the same order"
            )
        if self.budgets and len(self.budgets) != len(self.targets):
            raise InputError(
                f"{len(self.budgets)} --budget for {len(self.targets)} --target: "
                "give one per target, in the same order"
            )
        if len(self.predictions) not in (0, 2):
            raise InputError("--predictions is given twice: the baseline's and the candidate's")
        if (self.baselines or self.budgets) and not self.candidates:
            raise InputError("no --candidate to check: give its ONNX file")
        relative = [text for text in self.budgets if parse_budget(text).ratio is not None]
        if relative and not self.baselines:
            raise InputError(f"budget {relative[0]!r} is relative: it needs --baseline")
        if not self.baselines and not self.budgets and not self.predictions:
            raise InputError("nothing to check: give --baseline, --budget or --predictions")


@dataclass(frozen=True, slots=True)
class Found:
    """The checks, and the measurements behind them."""

    checks: tuple[Check, ...]
    measurements: tuple[Measurement, ...]


def check_on(job: Job, index: int, place: int, reporter: Reporter) -> Found:
    """Candidate number `index` on target number `place`."""
    if job.baselines and not job.absolute:
        found = _beside_baseline(job, index, place, reporter)
    else:
        found = _alone(job, index, place, reporter)
    if not job.budgets:
        return found
    reference, candidate = found.measurements[0], found.measurements[-1]
    limit_ms = parse_budget(job.budgets[place]).limit_ms(reference.median_ms)
    inside = checks.budget(candidate, limit_ms, job.rule.alpha, judge([candidate]).fit)
    return Found((*found.checks, inside), found.measurements)


def _beside_baseline(job: Job, index: int, place: int, reporter: Reporter) -> Found:
    target, candidate = job.targets[place], job.candidates[index]
    baseline = baseline_file(job.baselines[index], target)
    runs = []
    for seed in (job.seed, job.seed + ANOTHER_SEED):
        with reporter.task(f"{candidate.name} on {target.name}", job.rule.looks[-1]) as step:
            runs.append(
                compare(
                    target, baseline, candidate, rule=job.rule, seed=seed, sampling=PAIRED,
                    across=job.across, on_round=lambda _done, step=step: step(1), say=reporter.say,
                )
            )  # fmt: skip
        if runs[-1].decision.verdict != FAIL or not job.confirm:
            break
    last = runs[-1]
    check = checks.latency(last)
    if len(runs) == 2:
        check = _confirmed(check, checks.latency(runs[0]))
    check = replace(check, reason=check.reason + _tripwire(target, job.rule.margin))
    return Found((check,), (last.baseline, last.candidate))


def _tripwire(target: Target, margin: float) -> str:
    """A mark for targets that were calibrated and found too noisy for the margin."""
    if not registry_folder().is_dir():
        return ""
    store = Store(registry_folder())
    try:
        known = store.calibration(target.name)
    finally:
        store.close()
    if known is None or known["noise_floor"] <= margin:
        return ""
    return f" (tripwire only: this target's noise floor is {known['noise_floor']:.1%})"


def _confirmed(second: Check, first: Check) -> Check:
    """A slow-down counts when both runs show it."""
    if second.verdict == FAIL:
        return replace(second, reason=f"{second.reason}, confirmed by a second run")
    return replace(
        second,
        verdict=INCONCLUSIVE,
        reason=f"a first run said FAIL ({first.value:.3f}), a second said {second.verdict}",
    )


def _alone(job: Job, index: int, place: int, reporter: Reporter) -> Found:
    target, candidate = job.targets[place], job.candidates[index]
    rounds = job.rule.looks[-1]
    stored = _stored(job.baselines[index], target) if job.baselines else None
    measured = measure_alone(target, candidate, reporter, rounds=rounds, seed=job.seed)
    if stored is None:
        return Found((), (measured,))
    check = checks.against_stored(
        measured, stored.measurement, margin=job.rule.margin, alpha=job.rule.alpha
    )
    return Found((check,), (stored.measurement, measured))


def baseline_file(given: str, target: Target) -> Path:
    """The file itself, or the artifact of the baseline of that name."""
    path = Path(given)
    if path.exists() or path.suffix == ".onnx":
        return path
    return _stored(given, target).artifact


def _stored(name: str, target: Target) -> Baseline:
    store = Store(registry_folder())
    try:
        return store.baseline(name, target.name)
    finally:
        store.close()


def drifts(job: Job, candidate: Path) -> list[Check]:
    """Every further target's outputs against the first's, on the same inputs."""
    outputs = [outputs_of(target, candidate, seed=job.seed) for target in job.targets]
    return [
        checks.drift(
            candidate.stem,
            (job.targets[0].name, target.name),
            (outputs[0], output),
            limit=job.drift_limit,
        )
        for target, output in zip(job.targets[1:], outputs[1:], strict=True)
    ]
