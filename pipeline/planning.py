"""Latency table + predicted losses + budgets -> Plan, exactly.

A binary x_o per option, with dense latency t and measured difference d on every target:

    minimise    sum_o loss_o x_o
    subject to  t_k + sum_o d_{k,o} x_o <= budget_k          for every target k
                sum_{o covers operator i} x_o <= 1           for every operator i of a segment
                sum_{o in s} x_o - sum_{o not in s} x_o <= |s| - 1      for every excluded plan s

solved by HiGHS to a proven optimum. The differences are measured on the whole network, so what a
merge costs beside its neighbours is in them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from pipeline.mapping import Option
from profiles.statistics import Estimate

PREFER_FEWER = 1e-6  # of the largest loss, added per option: of equal plans the one with fewer
INFEASIBLE = 2  # HiGHS status of scipy.optimize.milp


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """What each option changes on one target: whole network with it minus dense, measured."""

    target: str
    dense: Estimate  # ms
    differences: Mapping[str, Estimate]  # option id -> ms; negative is faster


@dataclass(frozen=True, slots=True)
class Limit:
    """One row of the problem: the predicted latency of a target may not exceed `budget_ms`."""

    target: str
    dense_ms: float
    differences_ms: Mapping[str, float]
    budget_ms: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The options that a solution chose; none means keep everything."""

    options: tuple[str, ...]
    predicted_ms: Mapping[str, float]
    differences_ms: Mapping[str, Mapping[str, float]]  # target -> chosen option -> as reckoned
    predicted_loss: float
    status: str
    gap: float


def solve(
    options: Sequence[Option],
    losses: Mapping[str, float],
    limits: Sequence[Limit],
    *,
    excluded: Collection[frozenset[str]] = (),
    below_loss: float | None = None,
) -> Plan | None:
    """The plan of least loss within every limit, or None where there is none.

    `excluded` plans are not given again; `below_loss` asks for a strictly better one.
    """
    if not options:
        fits = all(limit.dense_ms <= limit.budget_ms for limit in limits) and not excluded
        return _plan((), losses, limits, "optimal", 0.0) if fits else None
    cost = np.array([losses[o.id] for o in options])
    scale = float(np.abs(cost).max()) or 1.0
    rows, upper = [], []
    for limit in limits:
        rows.append([limit.differences_ms[o.id] for o in options])
        upper.append(limit.budget_ms - limit.dense_ms)
    for covering in _conflicts(options):
        rows.append([float(i in covering) for i in range(len(options))])
        upper.append(1.0)
    for plan in excluded:
        rows.append([1.0 if o.id in plan else -1.0 for o in options])
        upper.append(len(plan) - 1.0)
    if below_loss is not None:
        rows.append(list(cost / scale))
        upper.append(below_loss / scale - PREFER_FEWER)
    found = milp(
        cost / scale + PREFER_FEWER,
        integrality=np.ones(len(options)),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(np.array(row), -np.inf, bound)
            for row, bound in zip(rows, upper, strict=True)
        ],
        options={"mip_rel_gap": 0.0},
    )
    if found.status == INFEASIBLE:
        return None
    if found.x is None:
        raise RuntimeError(f"the solver stopped without a plan: {found.message}")
    chosen = tuple(o.id for o, x in zip(options, found.x, strict=True) if x > 0.5)
    status = "optimal" if found.status == 0 else str(found.message)
    return _plan(chosen, losses, limits, status, float(found.mip_gap or 0.0))


def fastest(
    options: Sequence[Option], losses: Mapping[str, float], limits: Sequence[Limit]
) -> Plan:
    """The plan of least predicted latency, summed over targets relative to their budgets."""
    times = {
        o.id: sum(limit.differences_ms[o.id] / limit.budget_ms for limit in limits) for o in options
    }
    free = [Limit(x.target, x.dense_ms, x.differences_ms, float("inf")) for x in limits]
    plan = solve(options, times, free)
    assert plan is not None, "without limits, keeping everything is always a plan"
    return _plan(plan.options, losses, limits, plan.status, plan.gap)


def _conflicts(options: Sequence[Option]) -> Iterable[set[int]]:
    """For every operator of a segment, the options that would replace it."""
    covering: dict[tuple[str, int], set[int]] = {}
    for index, option in enumerate(options):
        for operator in range(option.first, option.last + 1):
            covering.setdefault((option.segment, operator), set()).add(index)
    return [indices for indices in covering.values() if len(indices) > 1]


def _plan(
    chosen: tuple[str, ...],
    losses: Mapping[str, float],
    limits: Sequence[Limit],
    status: str,
    gap: float,
) -> Plan:
    predicted = {
        limit.target: limit.dense_ms + sum(limit.differences_ms[id_] for id_ in chosen)
        for limit in limits
    }
    reckoned = {x.target: {id_: x.differences_ms[id_] for id_ in chosen} for x in limits}
    return Plan(chosen, predicted, reckoned, sum(losses[id_] for id_ in chosen), status, gap)
