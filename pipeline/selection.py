"""From statistics to a plan that is known to meet the budgets: losses, latency tables, the loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from torch import fx

from pipeline import criteria
from pipeline.activations import Statistics
from pipeline.caps import Rules
from pipeline.criteria import Evidence, Scores
from pipeline.demands import rules_of, unpinned
from pipeline.dense import CALIBRATION_BATCH
from pipeline.effects import losses_from, measure_effects
from pipeline.feedback import Attempt, Bench, Goal, Outcome, close_loop, limit_of
from pipeline.job import Job, measured_on
from pipeline.linearise import carries_out
from pipeline.mapping import Map, Option
from pipeline.planning import LatencyTable, fastest
from pipeline.progress import Reporter
from pipeline.recipe import EFFECT, Recipe
from pipeline.refitting import RIDGE, fit
from profiles.target import Target


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
            "convolutions that pad evenly and matrices are edited in torch"
        )
    return able


def rules(job: Job, bench: Bench, options: Sequence[Option]) -> Rules:
    """What the recipe caps and wants removed, refused here if no plan can satisfy it."""
    return rules_of(job.recipe.plan.demands, bench.dense, bench.map, options)


def score_all(job: Job, dense: fx.GraphModule, statistics: Statistics) -> tuple[Scores, ...]:
    """What every criterion says of every site."""
    evidence = Evidence(dense, statistics, job.splits.calibration.first(len(job.calibration)))
    return tuple(criteria.make(name).score(evidence) for name in criteria.names())


def losses(
    job: Job,
    dense: fx.GraphModule,
    map_: Map,
    options: Sequence[Option],
    statistics: Statistics,
    scores: Sequence[Scores],
    after: Path,
) -> dict[str, float]:
    """What each option is predicted to cost, by the recipe's criterion."""
    name = job.recipe.plan.criterion
    if name != EFFECT:
        return losses_from(next(s for s in scores if s.criterion == name), options)
    key = {"after": after.name, "options": [o.id for o in options], "images": len(job.calibration)}

    def make() -> dict[str, float]:
        refits = [option for option in options if option.fitted]
        with job.reporter.task("fitting every option", len(job.calibration)) as step:
            batches = job.calibration.split(CALIBRATION_BATCH)
            stencils = fit(dense, dense, map_, refits, batches, ridge=RIDGE, step=step)
        with job.reporter.task("measuring its effect", len(options)) as step:
            return measure_effects(
                dense,
                map_,
                options,
                job.calibration,
                statistics=statistics,
                stencils=stencils,
                step=step,
            )

    return job.record("effects", key, dict[str, float], make)


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
        with job.reporter.task(f"latency table of {target.name}", bench.rounds) as step:
            return bench.tabulate(target, options, step=step)

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
) -> Outcome:
    """The closed loop; each attempt is told to the reporter."""
    key = {
        "tables": [asdict(table) for table in tables],
        "losses": dict(losses),
        "budgets": [goal.budget.text for goal in goals],
        "max_rounds": job.recipe.plan.max_rounds,
        "caps": [str(cap) for cap in rules.caps],
        "remove": list(rules.removed),
        "targets": [measured_on(goal.target) for goal in goals],
    }

    def tell(attempt: Attempt) -> None:
        for measured, meets in zip(attempt.measured, attempt.meets, strict=True):
            predicted = attempt.plan.predicted_ms[measured.target]
            job.reporter.say(
                f"  {len(attempt.plan.options)} of {len(options)} options: predicted "
                f"{predicted:.4g} ms, measured {measured.latency_ms.value:.4g} ms "
                f"= {measured.ratio.value:.3f}x [{measured.ratio.lo:.3f}, {measured.ratio.hi:.3f}]"
                f" on {measured.target}: {'meets' if meets else 'over'} the budget"
            )

    def make() -> Outcome:
        return close_loop(
            bench,
            options,
            losses,
            tables,
            goals,
            max_rounds=job.recipe.plan.max_rounds,
            on_attempt=tell,
            rules=rules,
        )

    return job.record("plan", key, Outcome, make)
