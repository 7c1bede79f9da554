"""One model on one target: measure what its checks need, and check."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.devices import bench
from pipeline.reporting.progress import Reporter
from profiles import checks
from profiles.budget import Budget, parse_budget
from profiles.budget_rounds import (
    BudgetDecision,
    decide_budget,
    fit_or_not,
    measure_against,
    within,
)
from profiles.checks import Check
from profiles.fitness import judge
from profiles.gate import FAIL, INCONCLUSIVE, PAIRED, Decision, Rule, compare, decided
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
        names = [target.name for target in self.targets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(f"--target {twice[0]} is given twice: give each target once")
        if len(self.predictions) not in (0, 2):
            raise InputError("--predictions is given twice: the baseline's and the candidate's")
        if (self.baselines or self.budgets) and not self.candidates:
            raise InputError("no --candidate to check: give its ONNX file")
        relative = [text for text in self.budgets if parse_budget(text).ratio is not None]
        if relative and not self.baselines:
            raise InputError(f"budget {relative[0]!r} is relative: it needs --baseline")
        if not self.baselines and not self.budgets and not self.predictions:
            raise InputError("nothing to check: give --baseline, --budget or --predictions")

    @property
    def labels(self) -> tuple[str, ...]:
        """What each candidate is called, no two alike."""
        return tuple(self._label(index) for index in range(len(self.candidates)))

    def _label(self, index: int) -> str:
        path = self.candidates[index]
        if self.candidates.count(path) > 1:  # beside several baselines
            return f"{path.stem} ({self.candidates[: index + 1].count(path)})"
        if [other.stem for other in self.candidates].count(path.stem) > 1:
            return str(path.with_suffix(""))
        return path.stem

    def budget(self, place: int) -> Budget | None:
        return parse_budget(self.budgets[place]) if self.budgets else None


@dataclass(frozen=True, slots=True)
class Found:
    """The checks, and the measurements behind them by a name that no other one has."""

    checks: tuple[Check, ...]
    measurements: Mapping[str, Measurement]


def check_on(job: Job, index: int, place: int, reporter: Reporter) -> Found:
    """Candidate number `index` on target number `place`."""
    if job.baselines and job.absolute:
        found, measured = _against_stored(job, index, place, reporter)
    elif job.baselines:
        found, measured = _beside_baseline(job, index, place, reporter)
    else:
        found, measured = _alone(job, index, place, reporter)
    label, target = job.labels[index], job.targets[place].name
    names = (f"{label} on {target}, baseline", f"{label} on {target}")
    return Found(
        tuple(replace(check, model=label) for check in found),
        dict(zip(names[2 - len(measured) :], measured, strict=True)),
    )


def _enough(job: Job, place: int) -> Callable[[Decision, Measurement, Measurement], bool]:
    """Look again while a question is open, or a FAIL not yet sure among so many comparisons."""
    budget = job.budget(place)
    comparisons = len(job.candidates) * len(job.targets)

    def enough(decision: Decision, baseline: Measurement, candidate: Measurement) -> bool:
        if not decided(decision, baseline, candidate):
            return False
        if decision.verdict == FAIL and decision.p_value > job.rule.alpha / comparisons:
            return False
        if budget is None:
            return True
        inside = decide_budget(candidate, budget, job.rule, reference=baseline, across=job.across)
        return _settled(inside, job.rule, comparisons)

    return enough


def _settled(decision: BudgetDecision, rule: Rule, comparisons: int) -> bool:
    if decision.verdict == FAIL and decision.p_value is not None:
        return decision.p_value <= rule.alpha / comparisons
    return decision.verdict != INCONCLUSIVE


def _beside_baseline(
    job: Job, index: int, place: int, reporter: Reporter
) -> tuple[list[Check], list[Measurement]]:
    target, candidate = job.targets[place], job.candidates[index]
    baseline, budget = baseline_file(job.baselines[index], target), job.budget(place)
    runs = []
    for seed in (job.seed, job.seed + ANOTHER_SEED):
        with reporter.task(f"{candidate.name} on {target.name}", job.rule.looks[-1]) as step:
            runs.append(
                compare(
                    target, baseline, candidate, rule=job.rule, seed=seed, sampling=PAIRED,
                    across=job.across, enough=_enough(job, place),
                    on_round=lambda _done, step=step: step(1), say=reporter.say,
                )
            )  # fmt: skip
        if runs[-1].decision.verdict != FAIL or not job.confirm:
            break
    last = runs[-1]
    check = checks.latency(last)
    if len(runs) == 2:
        check = _confirmed(check, checks.latency(runs[0]))
    check = replace(check, reason=check.reason + _tripwire(target, job.rule.margin))
    found = [check]
    if budget is not None:
        inside = decide_budget(
            last.candidate, budget, job.rule, reference=last.baseline, across=job.across
        )
        found.append(checks.budget(last.candidate, fit_or_not(inside, last.fitness)))
    return found, [last.baseline, last.candidate]


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


def _alone(
    job: Job, index: int, place: int, reporter: Reporter
) -> tuple[list[Check], list[Measurement]]:
    """No baseline: rounds until the budget is decided."""
    target, candidate, budget = job.targets[place], job.candidates[index], job.budget(place)
    if budget is None:
        return [], []
    with reporter.task(f"{candidate.name} on {target.name}", job.rule.looks[-1]) as step:
        done = measure_against(
            target, [candidate], budget, rule=job.rule, sampling=bench.ALONE, seed=job.seed,
            on_round=lambda _done: step(1), say=reporter.say,
        )  # fmt: skip
    (measured,) = done.measurements
    return [checks.budget(measured, done.decision)], [measured]


def _against_stored(
    job: Job, index: int, place: int, reporter: Reporter
) -> tuple[list[Check], list[Measurement]]:
    """One look after all the rounds: the two measurements share nothing that would cancel."""
    target, candidate, budget = job.targets[place], job.candidates[index], job.budget(place)
    stored = _stored(job.baselines[index], target).measurement
    rule = replace(job.rule, looks=job.rule.looks[-1:])
    measured = bench.measure_alone(
        target, candidate, reporter, rounds=rule.looks[-1], seed=job.seed
    )
    found = [checks.against_stored(measured, stored, margin=rule.margin, alpha=rule.alpha)]
    if budget is not None:
        if budget.ratio is None:
            inside = decide_budget(measured, budget, rule, reference=measured)
        else:
            inside = within(
                checks.unpaired_ratio(measured, stored, rule.alpha), budget.ratio,
                "x of the stored baseline", rounds=min(len(measured.rounds), len(stored.rounds)),
                alpha=rule.alpha / 2,
            )  # fmt: skip
        found.append(checks.budget(measured, fit_or_not(inside, judge([measured]))))
    return found, [stored, measured]


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


def drifts(job: Job, index: int) -> list[Check]:
    """Every further target's outputs against the first's, on the same inputs."""
    candidate = job.candidates[index]
    outputs = [outputs_of(target, candidate, seed=job.seed) for target in job.targets]
    return [
        checks.drift(
            job.labels[index],
            (job.targets[0].name, target.name),
            (outputs[0], output),
            limit=job.drift_limit,
        )
        for target, output in zip(job.targets[1:], outputs[1:], strict=True)
    ]
