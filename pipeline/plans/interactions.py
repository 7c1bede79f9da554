"""What the options of a plan cost together, beyond the sum of what each costs alone.

    together_ij = loss({i, j}) - loss_i - loss_j

Every option is scored alone first, since pairs are too many. The first solution says which pairs
matter: those that it uses. They are scored together and the problem is solved again, until a
solution uses no pair that was not scored, or `TURNS` times: what looked cheap alone and is dear
together is left, and nothing is left for a pair that nobody looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

from pipeline.mapping import Option
from pipeline.planning import Limit, Plan, fastest, solve
from pipeline.plans.caps import Rules
from pipeline.plans.frontier import spread
from pipeline.plans.ties import quickest

Pair = tuple[str, str]

TURNS = 3
MOST_PAIRS = 100  # scored in a turn: those of the largest losses, which have most to add


def interactions(
    options: Sequence[Option],
    losses: Mapping[str, float],
    limits: Sequence[Limit],
    *,
    rules: Rules,
    frontier: int,
    score: Callable[[Sequence[Pair]], Mapping[Pair, float]],
) -> dict[Pair, float]:
    """`score` gives the loss of two options together; of `frontier` plans, if any, all pairs."""
    known: dict[Pair, float] = {}
    for _ in range(TURNS):
        plans = _solutions(options, losses, limits, rules, frontier, known)
        used = {pair for plan in plans for pair in combinations(sorted(plan.options), 2)}
        new = sorted(used - known.keys(), key=lambda p: (-losses[p[0]] - losses[p[1]], p))
        if not new:
            break
        scored = score(new[:MOST_PAIRS])
        known |= {(i, j): loss - losses[i] - losses[j] for (i, j), loss in scored.items()}
    return known


def _solutions(
    options: Sequence[Option],
    losses: Mapping[str, float],
    limits: Sequence[Limit],
    rules: Rules,
    frontier: int,
    pairs: Mapping[Pair, float],
) -> tuple[Plan, ...]:
    plan = solve(options, losses, limits, rules=rules, pairs=pairs)
    if plan is None:
        plan = fastest(options, losses, limits, rules=rules, pairs=pairs)
    else:
        loss = plan.predicted_loss
        plan = quickest(options, losses, limits, loss, rules=rules, pairs=pairs)
    if not frontier:
        return (plan,)
    return (plan, *spread(options, losses, limits, frontier, rules=rules, pairs=pairs))
