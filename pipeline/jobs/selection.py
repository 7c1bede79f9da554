"""From statistics to a plan that is known to meet the budgets: losses, latency tables, the loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import fx

from pipeline import criteria
from pipeline.activations import Statistics
from pipeline.criteria import Evidence, Scores
from pipeline.feedback import Attempt, Goal, Outcome, judged, limit_of, required, search
from pipeline.jobs.job import Job, measured_on
from pipeline.linearise import carries_out
from pipeline.mapping import Map, Option
from pipeline.planning import LatencyTable, Plan, fastest
from pipeline.plans.caps import Rules
from pipeline.plans.demands import rules_of, unpinned
from pipeline.plans.frontier import dominated, keeps_everything, measured_frontier
from pipeline.plans.interactions import Pair
from pipeline.plans.latency_table import tabulate
from pipeline.plans.workbench import Bench
from pipeline.recipe import Recipe
from pipeline.reporting.progress import Reporter
from profiles.budget import UNLIMITED
from profiles.store import Store, registry_folder
from profiles.target import Target
from runtimes.errors import InputError


def offered(map_: Map, recipe: Recipe, dense: fx.GraphModule, reporter: Reporter) -> list[Option]:
    """The options that the recipe allows and the traced model can carry out, in graph order."""
    kernels = set(recipe.plan.kernels)
    allowed = [
        option for option in map_.options if option.kind != "refit" or set(option.kernel) <= kernels
    ]
    allowed = unpinned(map_, allowed, recipe.plan.pin)
    able = [o for o in allowed if carries_out(dense, map_.segment(o.segment), o)]
    if len(able) < len(allowed):
        reporter.say(
            f"{len(allowed) - len(able)} of {len(allowed)} options are left out: only 2-d "
            "convolutions that pad evenly and matrices, with weights of their own, are edited in "
            "torch"
        )
    return able


def rules(job: Job, bench: Bench, options: Sequence[Option]) -> Rules:
    """What the recipe caps and wants removed, refused here if no plan can satisfy it."""
    return rules_of(job.recipe.plan.demands, bench.dense, bench.map, options)


def score_all(job: Job, dense: fx.GraphModule, statistics: Statistics) -> tuple[Scores, ...]:
    """What every criterion says of every site."""
    evidence = Evidence(dense, statistics, job.splits.calibration.first(len(job.calibration)))
    return tuple(criteria.make(name).score(evidence) for name in criteria.names())


def latency_table(
    job: Job, bench: Bench, target: Target, options: Sequence[Option], after: Path
) -> LatencyTable:
    """Every option measured alone on the target."""
    key = {
        "after": after.name,
        "options": [option.id for option in options],
        "rounds": bench.rounds,
        **measured_on(target),
    }

    def make() -> LatencyTable:
        with closing(Store(registry_folder())) as store:
            kept = bench.keep(target)
            return tabulate(bench, target, kept, options, store, job.reporter).table

    return job.record("table", key, LatencyTable, make)


def exact_merges(
    job: Job,
    bench: Bench,
    options: Sequence[Option],
    tables: Sequence[LatencyTable],
    goals: Sequence[Goal],
) -> Attempt:
    """The fastest plan without any refit, measured: is exact merging alone worth anything here?"""
    merges = [option for option in options if option.kind == "merge"]
    key = {
        "tables": [asdict(table) for table in tables],
        "options": [option.id for option in merges],
        "targets": [measured_on(goal.target) for goal in goals],
    }
    nothing = dict.fromkeys((option.id for option in merges), 0.0)

    def make() -> Attempt:
        limits = [limit_of(table, goal) for table, goal in zip(tables, goals, strict=True)]
        limits = [replace(x, budget_ms=min(x.budget_ms, x.dense_ms)) for x in limits]
        return bench.attempt(fastest(merges, nothing, limits), goals)

    return job.record("exact", key, Attempt, make)


def plan(
    job: Job,
    bench: Bench,
    options: Sequence[Option],
    losses: Mapping[str, float],
    tables: Sequence[LatencyTable],
    goals: Sequence[Goal],
    rules: Rules,
    pairs: Mapping[Pair, float],
) -> Outcome | None:
    """The closed loop, each attempt told to the reporter; none where no budget was given."""
    if all(goal.budget == UNLIMITED for goal in goals):
        return None
    key = {
        "tables": [asdict(table) for table in tables],
        "losses": dict(losses),
        "budgets": [goal.budget.text for goal in goals],
        "max_rounds": job.recipe.plan.max_rounds,
        "rules": rules.names,
        "pairs": [[*pair, loss] for pair, loss in pairs.items()],
        "targets": [measured_on(goal.target) for goal in goals],
    }

    def make() -> Outcome:
        found = search(
            bench,
            options,
            losses,
            tables,
            goals,
            max_rounds=job.recipe.plan.max_rounds,
            on_attempt=lambda attempt: _tell(job, attempt, goals),
            rules=rules,
            pairs=pairs,
        )
        return required(found, options, tables, goals, rules)

    return job.record("plan", key, Outcome, make)


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A bench whose measurements of plans are stages of the job."""

    job: Job
    bench: Bench
    key: Mapping[str, object]

    def attempt(self, plan: Plan, goals: Sequence[Goal]) -> Attempt:
        key = {**self.key, "plan": list(plan.options)}
        made = self.job.record("point", key, Attempt, lambda: self.bench.attempt(plan, goals))
        return replace(made, plan=plan)  # another recipe may have predicted otherwise for it


def frontier(
    job: Job,
    bench: Bench,
    options: Sequence[Option],
    losses: Mapping[str, float],
    tables: Sequence[LatencyTable],
    goals: Sequence[Goal],
    known: Sequence[Attempt],
    rules: Rules,
    pairs: Mapping[Pair, float],
) -> tuple[Attempt, ...]:
    """The recipe's number of plans from dense to fastest, measured; none if it asks for none."""
    if job.recipe.plan.frontier is None:
        return ()
    key = {
        "tables": [asdict(table) for table in tables],
        "budgets": [goal.budget.text for goal in goals],
        "targets": [measured_on(goal.target) for goal in goals],
    }
    as_it_is = {table.target: table.dense.value for table in tables}

    def keep() -> Attempt:
        measured = [bench.keep(goal.target).measured for goal in goals]
        return judged(keeps_everything(as_it_is), measured, goals)

    kept = job.record("kept", key, Attempt, keep)
    return measured_frontier(
        _Recorded(job, bench, key),
        options,
        losses,
        tables,
        goals,
        job.recipe.plan.frontier,
        known=[kept, *known],
        say=job.reporter.say,
        on_attempt=lambda attempt: _tell(job, attempt, goals),
        rules=rules,
        pairs=pairs,
    )


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan to train: `rounds` led to it, `point` is its row of the frontier."""

    name: str
    attempt: Attempt
    rounds: tuple[Attempt, ...]
    point: int | None


def to_train(
    outcome: Outcome | None, points: Sequence[Attempt], goals: Sequence[Goal]
) -> tuple[Planned, ...]:
    """The plan that meets the budgets, and of the frontier all but dense and what is dominated.

    In the order of predicted loss: each has its less compressed neighbour before it.
    """
    plans = []
    rows = {frozenset(point.plan.options): index for index, point in enumerate(points)}
    taken = None if outcome is None else frozenset(outcome.chosen.plan.options)
    if outcome is not None and taken is not None:
        name = " and ".join(f"{goal.budget.text} on {goal.target.name}" for goal in goals)
        plans.append(Planned(name, outcome.chosen, outcome.attempts, rows.get(taken)))
    for index, (point, worse) in enumerate(zip(points, dominated(points), strict=True)):
        options = frozenset(point.plan.options)
        if options and options != taken and not worse:
            plans.append(Planned(f"plan {index}", point, (point,), index))
    if not plans:
        raise InputError(
            f"no plan is faster than the network itself on {goals[0].target.name}, as its table "
            "has it: allow other kernels or choose another target"
        )
    return tuple(sorted(plans, key=lambda one: one.attempt.plan.predicted_loss))


def _tell(job: Job, attempt: Attempt, goals: Sequence[Goal]) -> None:
    for goal, one, meets in zip(goals, attempt.measured, attempt.meets, strict=True):
        verdict = "" if goal.budget == UNLIMITED else ": meets" if meets else ": over"
        job.reporter.say(
            f"  {len(attempt.plan.options)} replacements: predicted "
            f"{attempt.plan.predicted_ms[one.target]:.4g} ms, measured "
            f"{one.latency_ms.value:.4g} ms = {one.ratio.value:.3f}x [{one.ratio.lo:.3f}, "
            f"{one.ratio.hi:.3f}] on {one.target}{verdict and f'{verdict} the budget'}"
        )
