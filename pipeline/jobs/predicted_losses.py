"""What the options of a job are predicted to cost: each alone, and those of a plan together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from torch import fx

from pipeline.activations import Statistics
from pipeline.criteria import Scores
from pipeline.edits.refitting import RIDGE, fit
from pipeline.feedback import Goal, limit_of
from pipeline.jobs.dense import CALIBRATION_BATCH
from pipeline.jobs.effects import losses_from, measure_effects
from pipeline.jobs.job import Job
from pipeline.mapping import Map, Option
from pipeline.planning import LatencyTable
from pipeline.plans.caps import Rules
from pipeline.plans.interactions import Pair, interactions
from pipeline.recipe_tables.plan import EFFECT


def alone(
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
        found = _effects(job, dense, map_, [(option,) for option in options], statistics)
        return dict(zip((o.id for o in options), found, strict=True))

    return job.record("effects", key, dict[str, float], make)


def _effects(
    job: Job,
    dense: fx.GraphModule,
    map_: Map,
    groups: Sequence[Sequence[Option]],
    statistics: Statistics,
) -> list[float]:
    fitted = {option.id: option for group in groups for option in group if option.fitted}
    with job.reporter.task("fitting every option", len(job.calibration)) as step:
        batches = job.calibration.split(CALIBRATION_BATCH)
        stencils = fit(dense, dense, map_, [*fitted.values()], batches, ridge=RIDGE, step=step)
    with job.reporter.task("measuring its effect", len(groups)) as step:
        return measure_effects(
            dense,
            map_,
            groups,
            job.calibration,
            statistics=statistics,
            stencils=stencils,
            step=step,
        )


def together(
    job: Job,
    dense: fx.GraphModule,
    map_: Map,
    options: Sequence[Option],
    losses: Mapping[str, float],
    tables: Sequence[LatencyTable],
    goals: Sequence[Goal],
    rules: Rules,
    statistics: Statistics,
    after: Path,
) -> dict[Pair, float]:
    """What the pairs of the first solutions cost beyond the sum of both; a criterion adds up."""
    if job.recipe.plan.criterion != EFFECT:
        return {}
    key = {
        "after": after.name,
        "tables": [asdict(table) for table in tables],
        "losses": dict(losses),
        "budgets": [goal.budget.text for goal in goals],
        "rules": rules.names,
        "frontier": job.recipe.plan.frontier,
        "images": len(job.calibration),
    }
    by_id = {option.id: option for option in options}

    def score(pairs: Sequence[Pair]) -> dict[Pair, float]:
        job.reporter.say(f"scoring {len(pairs)} pairs of the plan together")
        groups = [(by_id[one], by_id[other]) for one, other in pairs]
        return dict(zip(pairs, _effects(job, dense, map_, groups, statistics), strict=True))

    def make() -> list[tuple[str, str, float]]:
        found = interactions(
            options,
            losses,
            [limit_of(table, goal) for table, goal in zip(tables, goals, strict=True)],
            rules=rules,
            frontier=job.recipe.plan.frontier or 0,
            score=score,
        )
        return [(one, other, loss) for (one, other), loss in found.items()]

    found = job.record("pairs", key, list[tuple[str, str, float]], make)
    return {(one, other): loss for one, other, loss in found}
