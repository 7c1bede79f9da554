"""Several plans from one latency table: from the network as it is to the fastest one, measured.

With dense latency t_k, that of the fastest plan f_k and a share 0 <= s <= 1 of the way between
them, a plan of the frontier is the one of least loss within

    t_k + s (f_k - t_k)     for every target k that the fastest plan helps,  f_k for any other

and of several the fastest: least loss first, then least time within that loss. First the shares
are spread evenly. Budgets between two neighbouring plans give one plan twice; what is missing then
comes from the widest gap that still holds another one.

Savings measured one by one do not add up, and most is added up in the fastest plan: it may be
predicted below zero. So the table is corrected by what whole plans measured before the frontier is
spread over it. Where a plan of the frontier is predicted faster, by more than `SURPRISE`, than any
that was measured, the fastest such plan is measured first, the table corrected and the frontier
spread again. No prediction is then an extrapolation by more than that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from pipeline.feedback import SURPRISE, Attempt, Device, Goal, limits_after
from pipeline.mapping import Option
from pipeline.planning import NO_PAIRS, LatencyTable, Limit, Plan, fastest, solve
from pipeline.plans.caps import FREE, Rules
from pipeline.plans.ties import quickest

CLOSE = 1e-3  # of the way: what lies nearer to a plan is not told from it


def keeps_everything(dense_ms: Mapping[str, float], status: str = "keeps everything") -> Plan:
    """The plan that chooses nothing, by target's latency."""
    return Plan((), dict(dense_ms), {target: {} for target in dense_ms}, 0.0, status, 0.0)


def spread(
    options: Sequence[Option],
    losses: Mapping[str, float],
    limits: Sequence[Limit],
    count: int,
    *,
    rules: Rules = FREE,
    pairs: Mapping[tuple[str, str], float] = NO_PAIRS,
) -> tuple[Plan, ...]:
    """At most `count` different plans, the network as it is first and the fastest last.

    All but the network as it is, which may be over a cap, keep the `rules`.
    """
    dense = keeps_everything({limit.target: limit.dense_ms for limit in limits})
    limits = [replace(limit, budget_ms=limit.dense_ms) for limit in limits]
    last = fastest(options, losses, limits, rules=rules, pairs=pairs)
    gains = {x.target: last.predicted_ms[x.target] - x.dense_ms for x in limits}
    if min(gains.values()) >= 0:
        return (dense,)

    def share(plan: Plan) -> float:
        way = [(plan.predicted_ms[x.target] - x.dense_ms, gains[x.target]) for x in limits]
        return min(done / gain for done, gain in way if gain < 0)

    def least(part: float) -> Plan:
        within = [
            replace(x, budget_ms=x.dense_ms + (part * g if g < 0 else g))
            for x, g in ((x, gains[x.target]) for x in limits)
        ]
        plan = solve(options, losses, within, rules=rules, pairs=pairs)
        if plan is None:
            return last
        return quickest(options, losses, within, plan.predicted_loss, rules=rules, pairs=pairs)

    plans = {_key(dense): dense}
    for step in range(count - 1, 0, -1):  # the fastest first: it is there whatever else is
        plan = least(step / (count - 1))
        plans.setdefault(_key(plan), plan)
    _fill(plans, least, share, count)
    return tuple(sorted(plans.values(), key=lambda plan: (share(plan), plan.predicted_loss)))


def _fill(
    plans: dict[frozenset[str], Plan],
    least: Callable[[float], Plan],
    share: Callable[[Plan], float],
    count: int,
) -> None:
    """Add plans from the widest gaps until there are `count`, or no gap holds another one."""
    closed: set[tuple[frozenset[str], frozenset[str]]] = set()
    while len(plans) < count:
        order = sorted(plans.values(), key=share)
        gaps = [
            (share(faster) - share(slower), share(slower), (_key(slower), _key(faster)))
            for slower, faster in pairwise(order)
        ]
        gaps = [gap for gap in gaps if gap[2] not in closed]
        if not gaps:
            return
        width, start, ends = max(gaps, key=lambda gap: gap[0])
        between = [least(start + part) for part in (width / 2, CLOSE)]
        new = next((plan for plan in between if _key(plan) not in plans), None)
        if new is None:
            closed.add(ends)
        else:
            plans[_key(new)] = new


def measured_frontier(
    device: Device,
    options: Sequence[Option],
    losses: Mapping[str, float],
    tables: Sequence[LatencyTable],
    goals: Sequence[Goal],
    count: int,
    *,
    known: Sequence[Attempt],
    say: Callable[[str], None],
    on_attempt: Callable[[Attempt], None],
    rules: Rules = FREE,
    pairs: Mapping[tuple[str, str], float] = NO_PAIRS,
) -> tuple[Attempt, ...]:
    """`spread` over the corrected tables, every plan measured whole.

    `known` were measured before and are not again: the network as it is and what was tried. Each
    prediction is that of the tables which the frontier was spread over, a known plan's too.
    """
    attempts = list(known)

    def measure(plan: Plan) -> Attempt:
        made = device.attempt(plan, goals)
        on_attempt(made)
        return made

    while True:
        limits = limits_after(tables, goals, attempts)
        plans = spread(options, losses, limits, count, rules=rules, pairs=pairs)
        measured = {_key(attempt.plan): attempt for attempt in attempts}
        new = [plan for plan in plans if _key(plan) not in measured]
        bold = [plan for plan in new if _outruns(plan, attempts, limits)]
        if not bold:
            break
        say("measuring the fastest plan first: it says how far savings add up")
        attempts.append(measure(bold[-1]))
    say(f"frontier of {len(plans)} plans")
    measured |= {_key(plan): measure(plan) for plan in new}
    return tuple(replace(measured[_key(plan)], plan=plan) for plan in plans)


def _outruns(plan: Plan, attempts: Sequence[Attempt], limits: Sequence[Limit]) -> bool:
    """Whether it is predicted faster, on some target, than every measured plan that removes any."""
    return any(
        plan.predicted_ms[limit.target]
        < (1 - SURPRISE)
        * min(
            (
                limit.dense_ms * one.measured[index].ratio.value
                for one in attempts
                if _key(one.plan)
            ),
            default=float("inf"),
        )
        for index, limit in enumerate(limits)
    )


def dominated(attempts: Sequence[Attempt]) -> tuple[bool, ...]:
    """Whether another plan is predicted to lose no more and was measured no slower anywhere."""
    costs = [
        (attempt.plan.predicted_loss, *(m.ratio.value for m in attempt.measured))
        for attempt in attempts
    ]
    return tuple(
        any(
            other != mine and all(o <= m for o, m in zip(other, mine, strict=True))
            for other in costs
        )
        for mine in costs
    )


def _key(plan: Plan) -> frozenset[str]:
    return frozenset(plan.options)
