"""`shoal compare`: is B slower than A on that target, in paired rounds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from pipeline.reporting.progress import Reporter
from profiles.fitness import Fitness
from profiles.gate import FAIL, PAIRED, PASS, Comparison, compare, planned
from profiles.target import Target
from runtimes.errors import InputError

EXIT_CODES = {PASS: 0, FAIL: 3}
OTHERWISE = 4


@dataclass(frozen=True, slots=True)
class Side:
    model: str
    sha256: str
    median_ms: float
    interval_ms: tuple[float, float]
    identity: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CompareDocument:
    schema: str
    target: str
    metric: str
    ratio: float
    interval: tuple[float | None, float | None]  # one-sided bounds; null: too few rounds
    confidence: float
    rounds: int
    verdict: str
    reason: str
    margin: float
    alpha: float
    looks: tuple[int, ...]
    alpha_per_look: float
    p_value: float
    baseline: Side
    candidate: Side
    fitness: Fitness


def parse_share(text: str) -> float:
    """`2%` or `0.02`."""
    form = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(%?)\s*", text)
    if form is None:
        raise InputError(f"{text!r} is no share: write 2% or 0.02")
    return float(form[1]) / (100 if form[2] else 1)


def compare_files(
    baseline: Path,
    candidate: Path,
    target: Target,
    reporter: Reporter,
    *,
    margin: str = "2%",
    alpha: float = 0.01,
    rounds: int = 20,
    seed: int = 0,
    across: tuple[str, ...] = (),
) -> CompareDocument:
    rule = planned(parse_share(margin), alpha, rounds)
    with reporter.task(f"compare on {target.name}", rounds) as step:
        done = compare(
            target, baseline, candidate, rule=rule, seed=seed, sampling=PAIRED, across=across,
            on_round=lambda _done: step(1),
            say=reporter.say,
        )  # fmt: skip
    return compare_document(done)


def compare_document(done: Comparison) -> CompareDocument:
    decision = done.decision
    bounds = (decision.ratio.lo, decision.ratio.hi)
    decided = bounds[0] > 0
    return CompareDocument(
        schema="shoal.compare/1",
        target=done.baseline.target,
        metric=done.baseline.metric,
        ratio=decision.ratio.value,
        interval=bounds if decided else (None, None),
        confidence=decision.ratio.confidence,
        rounds=done.rounds,
        verdict=decision.verdict,
        reason=decision.reason,
        margin=done.rule.margin,
        alpha=done.rule.alpha,
        looks=done.rule.looks,
        alpha_per_look=done.rule.alpha_per_look,
        p_value=decision.p_value,
        baseline=_side(done, "baseline"),
        candidate=_side(done, "candidate"),
        fitness=done.fitness,
    )


def _side(done: Comparison, which: str) -> Side:
    measured = done.baseline if which == "baseline" else done.candidate
    return Side(
        str(measured.artifact.path),
        measured.artifact.sha256,
        measured.median_ms,
        measured.interval_ms,
        measured.identity,
    )


def exit_code(document: CompareDocument) -> int:
    return EXIT_CODES.get(document.verdict, OTHERWISE)


def show_compare(document: CompareDocument) -> Table:
    table = Table(title=f"{document.verdict}: {document.reason}", show_header=False)
    for name, side in (("A", document.baseline), ("B", document.candidate)):
        lo, hi = side.interval_ms
        table.add_row(f"{name}  {Path(side.model).name}",
                      f"{side.median_ms:.4g} ms  [{lo:.4g}, {hi:.4g}]")  # fmt: skip
    low, high = document.interval
    told = "no interval" if low is None or high is None else f"[{low:.4f}, {high:.4f}]"
    table.add_row("B / A", f"{document.ratio:.4f}  {told} at {document.confidence:.2%}")
    looks = ", ".join(str(look) for look in document.looks)
    table.add_row("rule", f"margin {document.margin:.1%}, alpha {document.alpha:g} shared equally "
                          f"by looks after {looks} rounds; {document.rounds} run")  # fmt: skip
    table.add_row("fitness", "; ".join([document.fitness.verdict, *document.fitness.notes]))
    return table
