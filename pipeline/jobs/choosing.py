"""Which candidate is the result: what each is worth against its budgets and the accuracy floor.

budget     of those that meet every budget and the floor, the one of best validation accuracy
accuracy   of the same, the fastest: least product of its ratios to dense over the targets
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from pipeline.feedback import Goal, Measured
from pipeline.recipe_tables.plan import Objective, PlanTable
from pipeline.reporting.documents import Verdict
from pipeline.verify import Parity
from profiles.budget import UNLIMITED


@dataclass(frozen=True, slots=True)
class Judgement:
    """PASS when every budget is met by its upper bound and nothing was broken on the way."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()


def floor_of(rule: PlanTable, dense_validation: float) -> float | None:
    """The least validation accuracy that the recipe allows, null where it allows any."""
    floors = [] if rule.accuracy_floor is None else [rule.accuracy_floor]
    if rule.accuracy_fall is not None:
        floors.append(dense_validation - rule.accuracy_fall)
    return max(floors, default=None)


def judge(
    goals: Sequence[Goal],
    measured: Sequence[Measured],
    parity: Sequence[Parity],
    validation: float,
    floor: float | None,
) -> Judgement:
    failures, doubts = [], []
    for found in parity:
        if not found.passed:
            failures.append(
                f"{found.target} differs from torch by {found.max_relative:.2g} of the largest "
                f"logit, over {found.tolerance:g}"
            )
    if floor is not None and validation < floor:
        failures.append(f"validation accuracy {validation:.4f} is under the floor {floor:.4g}")
    by_target = {one.target: one for one in measured}
    for goal in goals:
        one = by_target[goal.target.name]
        if goal.budget == UNLIMITED or one.meets(goal.budget):
            continue
        shown = (
            f"{one.latency_ms.value:.4g} ms = {one.ratio.value:.3f}x dense "
            f"[{one.ratio.lo:.3f}, {one.ratio.hi:.3f}] on {one.target} against "
            f"{goal.budget.text} after {one.rounds} rounds"
        )
        (failures if one.misses(goal.budget) else doubts).append(shown)
    if failures:
        return Judgement("FAIL", (*failures, *doubts))
    return Judgement("INCONCLUSIVE", tuple(doubts)) if doubts else Judgement("PASS")


@dataclass(frozen=True, slots=True)
class Contender:
    """What the choice looks at; `ratios` to dense on the targets with a goal."""

    judgement: Judgement
    validation: float
    ratios: tuple[float, ...]


def choose(contenders: Sequence[Contender], objective: Objective) -> int | None:
    """The index of the one that passes and is best by the objective, null where none passes."""

    def worth(index: int) -> tuple[float, float]:
        one = contenders[index]
        slow = prod(one.ratios)
        return (-one.validation, slow) if objective == "budget" else (slow, -one.validation)

    passed = [i for i, one in enumerate(contenders) if one.judgement.verdict == "PASS"]
    return min(passed, key=worth, default=None)


def overall(judgements: Sequence[Judgement], chosen: int | None) -> Verdict:
    """FAIL only where every candidate fails: of one in doubt more rounds might think better."""
    if chosen is not None:
        return "PASS"
    doubted = any(judgement.verdict == "INCONCLUSIVE" for judgement in judgements)
    return "INCONCLUSIVE" if doubted else "FAIL"
