"""Of the plans that are predicted to lose the same, the fastest.

Losses tie often, counts of activations nearly always, and a solver takes any of the tied plans. The
fastest of them costs nothing more and leaves the most room below the budget.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pipeline.mapping import Option
from pipeline.planning import NO_PAIRS, Limit, Plan, solve
from pipeline.plans.caps import FREE, Rules

LOSS = "loss"


def quickest(
    options: Sequence[Option],
    losses: Mapping[str, float],
    limits: Sequence[Limit],
    loss: float,
    *,
    excluded: Collection[frozenset[str]] = (),
    rules: Rules = FREE,
    pairs: Mapping[tuple[str, str], float] = NO_PAIRS,
) -> Plan:
    """Within the limits, the fastest plan that loses no more than `loss`: a limit like any other.

    There is a plan of that loss within the limits and not excluded.
    """
    scale = max((abs(value) for value in losses.values()), default=0.0) or 1.0
    shares = {id_: value / scale for id_, value in losses.items()}
    times = {
        o.id: sum(limit.differences_ms[o.id] / limit.dense_ms for limit in limits) for o in options
    }
    together = {pair: value / scale for pair, value in pairs.items()}
    lost = Limit(LOSS, 0.0, shares, loss / scale, together)
    plan = solve(options, times, [*limits, lost], excluded=excluded, rules=rules)
    assert plan is not None, "the plan that loses this much is one"
    both = sum(v for pair, v in pairs.items() if set(pair) <= set(plan.options))
    return Plan(
        plan.options,
        {limit.target: plan.predicted_ms[limit.target] for limit in limits},
        {limit.target: plan.differences_ms[limit.target] for limit in limits},
        sum(losses[id_] for id_ in plan.options) + both,
        plan.status,
        plan.gap,
        plan.amounts,
    )
