"""`shoal plan`: the least to remove so that the measured network meets every budget.

    dense, measured --meets--> keep everything
                    --misses-> latency table of every option -> closed loop -> plan

Needs no torch and no training. Whatever was measured is kept in the registry: a job that is cut
short, by Ctrl-C or a device that disappears, goes on from there when it is asked for again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import onnx_ir as ir
from pydantic import TypeAdapter

from pipeline.feedback import Attempt, Goal, judged, limit_of, out_of_reach, search
from pipeline.mapping import MAX_KERNEL, Option, load_model, map_model
from pipeline.planning import Plan
from pipeline.plans.caps import Rules
from pipeline.plans.demands import NO_DEMANDS, Demands, rules_of, unpinned
from pipeline.plans.frontier import keeps_everything, measured_frontier
from pipeline.plans.infeasible import blame
from pipeline.plans.latency_table import tabulate
from pipeline.plans.resumed import Parts, Resumed, job_of, saying_what_is_kept
from pipeline.plans.scratch import scratch
from pipeline.plans.workbench import Bench
from pipeline.reporting.output import check_out, write_out
from pipeline.reporting.plan_document import PlanDocument
from pipeline.reporting.progress import Reporter
from pipeline.verbs.plan_file import (
    PlanFile,
    goals_of,
    losses_of,
    options_of,
    predicted_ratios,
    read_plan,
    sizes_of,
)
from pipeline.verbs.plan_found import Asked, Found, document
from profiles.budget import UNLIMITED
from profiles.store import Store, registry_folder
from runtimes.errors import InputError
from runtimes.onnx_file import sha256

NO_BUDGET = "no budget was given, so nothing has to be removed"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for; `source` is a plan file to build and measure again."""

    model: Path | None
    targets: tuple[str, ...] = ()
    budgets: tuple[str, ...] = ()
    scores: Path | None = None
    source: Path | None = None
    out: Path | None = None
    frontier: int = 0
    max_rounds: int = 5
    rounds: int = 6
    max_kernel: int | None = None
    seed: int = 0
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # inputs, batch in front
    demands: Demands = NO_DEMANDS


def plan_file(wish: Wish, reporter: Reporter) -> PlanDocument:
    """Find the plan, or measure the one of `wish.source` again; `wish.out` gets the document."""
    filed = read_plan(wish.source) if wish.source else None
    path = network_of(wish, filed)
    goals = goals_of(wish.targets, wish.budgets, filed, unlimited=wish.frontier > 0)
    check_out(wish.out, path, wish.scores)
    network = load_model(path)
    max_kernel = wish.max_kernel or (filed.max_kernel if filed else None) or MAX_KERNEL
    map_ = map_model(network, max_kernel=max_kernel)
    losses = losses_of(map_.options, wish.scores)
    options = unpinned(map_, map_.options, wish.demands.pin)
    rules = rules_of(wish.demands, network, map_, options)
    given = options_of(filed, map_.options, wish.source) if filed and wish.source else None
    shapes = wish.shapes or (filed.shapes if filed else {})
    sizes = sizes_of(shapes, network, [goal.target for goal in goals])
    digest = sha256(path)
    if filed and filed.model_sha256 not in (None, digest):
        reporter.say(f"{path} is not the file that the plan was made for; it has the same options")
    ir.external_data.load_to_model(network)  # variants are saved in another folder
    with (
        scratch() as folder,
        closing(Store(registry_folder())) as store,
    ):
        bench = Bench(network, map_, folder, seed=wish.seed, rounds=wish.rounds, sizes=sizes)
        job = {
            "model": digest,
            "goals": [[asdict(goal.target), goal.budget.text] for goal in goals],
            "losses": losses,
            "given": [option.id for option in given or ()],
            "demands": asdict(wish.demands),
            "sizes": sizes,
            "sampling": [wish.rounds, wish.max_rounds, wish.frontier, wish.seed, max_kernel],
        }
        parts = Parts(store, job_of(job))
        device = Resumed(bench, parts)
        with saying_what_is_kept(reporter.say):
            if filed and given is not None:
                ratios = predicted_ratios(filed, goals, "fp32")
                stated = _stated(given, losses, {t: filed.predicted_ms[t] for t in ratios})
                found = replace(again(device, stated, goals, reporter), predicted=(ratios,))
            else:
                found = find(
                    device,
                    options,
                    losses,
                    goals,
                    max_rounds=wish.max_rounds,
                    frontier=wish.frontier,
                    rules=rules,
                    reporter=reporter,
                )
        loss = "scores" if wish.scores else "sites"
        asked = Asked(
            str(path), digest, max_kernel, wish.seed, shapes, loss, searched=filed is None
        )
        made = document(asked, map_, losses, goals, found, rules, wish.demands)
        write_plan(made, wish.out)
        parts.finished()
    return made


def write_plan(made: PlanDocument, out: Path | None) -> None:
    """To the file that was asked for, if one was."""
    if out is not None:
        write_out(TypeAdapter(PlanDocument).dump_json(made, indent=2).decode() + "\n", out)


def network_of(wish: Wish, filed: PlanFile | None) -> Path:
    """The network to plan; refused where there is none, or a plan with what only a search has."""
    path = wish.model or (Path(filed.model) if filed and filed.model else None)
    if path is None:
        raise InputError("no network to plan: give MODEL.onnx, or --from with a plan that names it")
    if filed and wish.frontier:
        raise InputError("--frontier searches and --from measures a given plan: give one of them")
    if filed and wish.demands.any():
        raise InputError("--from measures a given plan: caps, --pin and --remove need a new search")
    if wish.model is None and not path.exists():
        raise InputError(
            f"{wish.source} is a plan of {path}, which is not there, seen from this folder: "
            "give MODEL.onnx as well"
        )
    return path


def again(device: Resumed, plan: Plan, goals: Sequence[Goal], reporter: Reporter) -> Found:
    """A given plan, measured."""
    dense = tuple(device.keep(goal.target).measured for goal in goals)
    attempt = device.attempt(plan, goals)
    _tell(attempt, reporter, verdicts=any(goal.budget != UNLIMITED for goal in goals))
    reasons = () if all(attempt.meets) else (_over(attempt, goals),)
    return Found(dense, (), (attempt,), (), attempt, reasons)


def find(
    device: Resumed,
    options: Sequence[Option],
    losses: Mapping[str, float],
    goals: Sequence[Goal],
    *,
    max_rounds: int,
    frontier: int,
    rules: Rules,
    reporter: Reporter,
) -> Found:
    """Keep everything where that is enough; else the table of every target and the closed loop.

    `frontier` plans from the same table, if any were asked for, whatever the budgets are.
    """
    reporter.say("measuring the network as it is")
    keeping = [device.keep(goal.target) for goal in goals]
    dense = tuple(one.measured for one in keeping)
    as_it_is = {m.target: m.latency_ms.value for m in dense}
    kept = judged(keeps_everything(as_it_is), dense, goals)
    unruled = not rules.removed and all(cap.holds(()) for cap in rules.caps)
    if all(kept.meets) and unruled and not frontier:
        return Found(dense, (), (), (), kept, ("the network as it is meets every budget",))
    if not options:
        reason = "nothing can be removed: no option replaces anything (`shoal map` says why)"
        return Found(dense, (), (), (), kept, (reason,), (kept,) if frontier else ())
    free = all(goal.budget == UNLIMITED for goal in goals)
    heard: set[frozenset[str]] = set()

    def told(attempt: Attempt) -> None:
        options_ = frozenset(attempt.plan.options)
        _tell(attempt, reporter, verdicts=not free, again=options_ in heard)
        heard.add(options_)

    made = tuple(
        tabulate(device.bench, goal.target, one, options, device.parts.store, reporter)
        for goal, one in zip(goals, keeping, strict=True)
    )
    for one in made:
        reporter.say(f"latency table of {one.target}: {one.summary}")
    tables = tuple(one.table for one in made)

    def between(known: Sequence[Attempt]) -> tuple[Attempt, ...]:
        return measured_frontier(
            device,
            options,
            losses,
            tables,
            goals,
            frontier,
            known=known,
            say=reporter.say,
            on_attempt=lambda a: _tell(a, reporter, verdicts=False),
            rules=rules,
        )

    if all(kept.meets) and unruled:
        reason = NO_BUDGET if free else "the network as it is meets every budget"
        return Found(dense, made, (), (), kept, (reason,), between([kept]))
    done = search(
        device,
        options,
        losses,
        tables,
        goals,
        max_rounds=max_rounds,
        on_attempt=told,
        rules=rules,
    )
    points = between([kept, *done.attempts]) if frontier else ()
    predicted = tuple(
        {target: ms / as_it_is[target] for target, ms in a.plan.predicted_ms.items()}
        for a in done.attempts
    )
    if done.best is not None:
        chosen = done.attempts[done.best]
        return Found(dense, made, done.attempts, predicted, chosen, (), points)
    assert done.nearest is not None, "without a best plan another came nearest"
    nearest = done.attempts[done.nearest]
    limits = [limit_of(table, goal) for table, goal in zip(tables, goals, strict=True)]
    reasons = (out_of_reach(nearest, goals), blame(options, limits, rules))
    reasons = tuple(reason for reason in reasons if reason)
    return Found(dense, made, done.attempts, predicted, nearest, reasons, points)


def _stated(
    chosen: Sequence[Option], losses: Mapping[str, float], predicted_ms: Mapping[str, float]
) -> Plan:
    loss = sum(losses[option.id] for option in chosen)
    return Plan(tuple(o.id for o in chosen), predicted_ms, {}, loss, "as given", 0.0)


def _over(attempt: Attempt, goals: Sequence[Goal]) -> str:
    over = [
        f"{goal.budget.text} on {m.target} ({m.latency_ms.value:.4g} ms, {m.ratio.value:.3f}x)"
        for m, goal, meets in zip(attempt.measured, goals, attempt.meets, strict=True)
        if not meets
    ]
    return f"the plan does not meet {' and '.join(over)}; plan again without --from"


def _tell(attempt: Attempt, reporter: Reporter, *, verdicts: bool, again: bool = False) -> None:
    for m, meets in zip(attempt.measured, attempt.meets, strict=True):
        predicted = attempt.plan.predicted_ms.get(m.target)
        said = "" if predicted is None else f"predicted {predicted:.4g} ms, "
        verdict = f": {'meets' if meets else 'over'} the budget" if verdicts else ""
        reporter.say(
            f"  {len(attempt.plan.options)} replacements{', the same again' if again else ''}: "
            f"{said}measured {m.latency_ms.value:.4g} ms = {m.ratio.value:.3f}x on {m.target}"
            f"{verdict}"
        )
