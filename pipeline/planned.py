"""`shoal plan`: the least to remove so that the measured network meets every budget.

    dense, measured --meets--> keep everything
                    --misses-> every option alone, beside dense -> closed loop -> plan

Needs no torch and no training. Variants are written a batch at a time, each batch over the last:
a hundred options of a network of 100 MB never take more than `BATCH_BYTES` of disk and of the
worker's memory. Every batch has dense beside it, whose own time brings the batches to one scale.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
from pydantic import TypeAdapter

from pipeline.caps import Rules
from pipeline.demands import NO_DEMANDS, Demands, rules_of, unpinned
from pipeline.feedback import Attempt, Bench, Goal, Measured, limit_of, out_of_reach, search
from pipeline.infeasible import blame
from pipeline.mapping import MAX_KERNEL, Option, load_model, map_model
from pipeline.plan_document import PlanDocument
from pipeline.plan_file import goals_of, losses_of, options_of, predicted_ratios, read_plan
from pipeline.plan_found import Asked, Found, document
from pipeline.planning import LatencyTable, Plan
from pipeline.progress import Reporter
from profiles.statistics import Estimate
from profiles.target import Target
from runtimes.errors import InputError
from runtimes.onnx_file import sha256

BATCH_BYTES = 2**29


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for; `source` is a plan file to build and measure again."""

    model: Path | None
    targets: tuple[str, ...] = ()
    budgets: tuple[str, ...] = ()
    scores: Path | None = None
    source: Path | None = None
    out: Path | None = None
    max_rounds: int = 5
    rounds: int = 8
    max_kernel: int | None = None
    seed: int = 0
    demands: Demands = NO_DEMANDS


def plan_file(wish: Wish, reporter: Reporter) -> PlanDocument:
    """Find the plan, or measure the one of `wish.source` again; `wish.out` gets the document."""
    filed = read_plan(wish.source) if wish.source else None
    path = wish.model or (Path(filed.model) if filed and filed.model else None)
    if path is None:
        raise InputError("no network to plan: give MODEL.onnx, or --from with a plan that names it")
    if filed and wish.demands.any():
        raise InputError("--from measures a given plan: caps, --pin and --remove need a new search")
    goals = goals_of(wish.targets, wish.budgets, filed)
    _check_out(wish.out)
    network = load_model(path)
    max_kernel = wish.max_kernel or (filed.max_kernel if filed else None) or MAX_KERNEL
    map_ = map_model(network, max_kernel=max_kernel)
    losses = losses_of(map_.options, wish.scores)
    options = unpinned(map_, map_.options, wish.demands.pin)
    rules = rules_of(wish.demands, network, map_, options)
    given = options_of(filed, map_.options, wish.source) if filed and wish.source else None
    digest = sha256(path)
    if filed and filed.model_sha256 not in (None, digest):
        reporter.say(f"{path} is not the file that the plan was made for; it has the same options")
    ir.external_data.load_to_model(network)  # variants are saved in another folder
    with tempfile.TemporaryDirectory(prefix="shoal-plan-") as folder:
        bench = Bench(network, map_, Path(folder), seed=wish.seed, rounds=wish.rounds)
        reporter.say(f"measuring {path.name} as it is")
        dense = tuple(bench.keep(goal.target) for goal in goals)
        if filed and given is not None:
            attempt = bench.attempt(_stated(given, losses, filed.predicted_ms), goals)
            _tell(attempt, reporter)
            reasons = () if all(attempt.meets) else (_over(attempt, goals),)
            found = Found(dense, (), (attempt,), (predicted_ratios(filed),), attempt, reasons)
        else:
            found = find(bench, options, losses, goals, dense, wish.max_rounds, rules, reporter)
    loss = "scores" if wish.scores else "sites"
    asked = Asked(str(path), digest, max_kernel, wish.seed, loss, searched=filed is None)
    made = document(asked, map_, losses, goals, found, rules, wish.demands)
    if wish.out:
        write(made, wish.out)
    return made


def find(
    bench: Bench,
    options: Sequence[Option],
    losses: Mapping[str, float],
    goals: Sequence[Goal],
    dense: tuple[Measured, ...],
    max_rounds: int,
    rules: Rules,
    reporter: Reporter,
) -> Found:
    """Keep everything where that is enough; else the table of every target and the closed loop."""
    as_it_is = {m.target: m.latency_ms.value for m in dense}
    kept = Attempt(
        Plan((), as_it_is, {}, 0.0, "keeps everything", 0.0),
        dense,
        tuple(m.meets(goal.budget) for m, goal in zip(dense, goals, strict=True)),
    )
    unruled = not rules.removed and all(cap.holds(()) for cap in rules.caps)
    if all(kept.meets) and unruled:
        return Found(dense, (), (), (), kept, ("the network as it is meets every budget",))
    if not options:
        reason = "nothing can be removed: no option replaces anything (`shoal map` says why)"
        return Found(dense, (), (), (), kept, (reason,))
    tables = tuple(
        tabulate(bench, goal.target, options, measured.latency_ms, reporter)
        for goal, measured in zip(goals, dense, strict=True)
    )
    done = search(
        bench,
        options,
        losses,
        tables,
        goals,
        max_rounds=max_rounds,
        on_attempt=lambda attempt: _tell(attempt, reporter),
        rules=rules,
    )
    predicted = tuple(
        {target: ms / as_it_is[target] for target, ms in a.plan.predicted_ms.items()}
        for a in done.attempts
    )
    if done.best is not None:
        chosen = done.attempts[done.best]
        return Found(dense, tables, done.attempts, predicted, chosen)
    nearest = min(done.attempts, key=lambda attempt: _excess(attempt, goals))
    limits = [limit_of(table, goal) for table, goal in zip(tables, goals, strict=True)]
    reasons = (out_of_reach(nearest, goals), blame(options, limits, rules))
    reasons = tuple(reason for reason in reasons if reason)
    return Found(dense, tables, done.attempts, predicted, nearest, reasons)


def tabulate(
    bench: Bench, target: Target, options: Sequence[Option], dense: Estimate, reporter: Reporter
) -> LatencyTable:
    """Every option on the target, a batch at a time, as if beside a dense network of that time."""
    size = max(1, BATCH_BYTES // bench.dense_path.stat().st_size - 1)
    batches = [options[i : i + size] for i in range(0, len(options), size)]
    differences: dict[str, Estimate] = {}
    name = f"latency table of {target.name}, {len(options)} options"
    with reporter.task(name, bench.rounds * len(batches)) as step:
        for batch in batches:
            table = bench.tabulate(target, batch, step=step)
            scale = dense.value / table.dense.value
            differences |= {
                id_: Estimate(d.value * scale, d.lo * scale, d.hi * scale, d.confidence)
                for id_, d in table.differences.items()
            }
    return LatencyTable(target.name, dense, differences)


def _stated(
    chosen: Sequence[Option], losses: Mapping[str, float], predicted_ms: Mapping[str, float]
) -> Plan:
    loss = sum(losses[option.id] for option in chosen)
    return Plan(tuple(o.id for o in chosen), predicted_ms, {}, loss, "as given", 0.0)


def _excess(attempt: Attempt, goals: Sequence[Goal]) -> float:
    """The upper bound relative to the budget, on the target where it is worst."""
    return max(
        m.ratio.hi / goal.budget.ratio
        if goal.budget.ratio is not None
        else m.latency_ms.hi / goal.budget.limit_ms(m.dense_ms.value)
        for m, goal in zip(attempt.measured, goals, strict=True)
    )


def _over(attempt: Attempt, goals: Sequence[Goal]) -> str:
    over = [
        f"{goal.budget.text} on {m.target} ({m.latency_ms.value:.4g} ms, {m.ratio.value:.3f}x)"
        for m, goal, meets in zip(attempt.measured, goals, attempt.meets, strict=True)
        if not meets
    ]
    return f"the plan does not meet {' and '.join(over)}; plan again without --from"


def _tell(attempt: Attempt, reporter: Reporter) -> None:
    for m, meets in zip(attempt.measured, attempt.meets, strict=True):
        predicted = attempt.plan.predicted_ms.get(m.target)
        said = "" if predicted is None else f"predicted {predicted:.4g} ms, "
        reporter.say(
            f"  {len(attempt.plan.options)} replacements: {said}measured {m.latency_ms.value:.4g} "
            f"ms = {m.ratio.value:.3f}x on {m.target}: {'meets' if meets else 'over'} the budget"
        )


def _check_out(out: Path | None) -> None:
    """Before minutes of measuring."""
    if out is None:
        return
    if out.is_dir() or not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise InputError(f"{out} cannot be written: give a file name in a folder that is writable")


def write(made: PlanDocument, out: Path) -> None:
    """The whole file or nothing of it."""
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".shoal-") as folder:
        draft = Path(folder) / "plan.json"
        draft.write_bytes(TypeAdapter(PlanDocument).dump_json(made, indent=2) + b"\n")
        draft.replace(out)
