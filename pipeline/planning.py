"""Latency table + predicted losses + budgets -> Plan, exactly.

A binary x_o per option, with dense latency t and measured difference d on every target:

    minimise    sum_o loss_o x_o + sum_{i,j} together_ij y_ij
    subject to  t_k + sum_o d_{k,o} x_o <= budget_k          for every target k
                q_r + sum_o q_{r,o} x_o <= most              for every row r of a capped quantity
                sum_{o covers operator i} x_o <= 1           for every operator i
                sum_{o removes site s} x_o >= 1              for every site s that must go
                sum_{o in s} x_o - sum_{o not in s} x_o <= |s| - 1      for every excluded plan s
                y_ij <= x_i,  y_ij <= x_j,  y_ij >= x_i + x_j - 1       for every pair ij

solved by HiGHS. The differences are measured on the whole network, so what a merge costs beside its
neighbours is in them. Options are put in the order of their ids first: the same table gives the
same plan, whatever order it came in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from scipy.sparse import csr_array

from pipeline.mapping import Option
from pipeline.plans.caps import FREE, Cap, Rules
from pipeline.plans.footprint import macs_of
from pipeline.plans.solver import Problem, minimise
from profiles.statistics import Estimate

PREFER_FEWER = 1e-6  # of the largest loss, added per option: of equal plans the one with fewer
COST_SCALE = 1e3  # of the largest loss: HiGHS stops within 1e-6 of the optimum, whatever the unit
NO_PAIRS: Mapping[tuple[str, str], float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """What each option changes on one target: whole network with it minus dense, measured."""

    target: str
    dense: Estimate  # ms
    differences: Mapping[str, Estimate]  # option id -> ms; negative is faster


@dataclass(frozen=True, slots=True)
class Limit:
    """One row of the problem: the predicted latency of a target may not exceed `budget_ms`.

    `together`: what two options change beyond the sum of what each changes.
    """

    target: str
    dense_ms: float
    differences_ms: Mapping[str, float]
    budget_ms: float
    together: Mapping[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """The options that a solution chose; none means keep everything.

    `gap` is what the solver left unproven, of the loss; `amounts` holds every capped quantity.
    """

    options: tuple[str, ...]
    predicted_ms: Mapping[str, float]
    differences_ms: Mapping[str, Mapping[str, float]]  # target -> chosen option -> as reckoned
    predicted_loss: float
    status: str
    gap: float
    amounts: Mapping[str, float] = field(default_factory=dict)


def solve(
    options: Sequence[Option],
    losses: Mapping[str, float],
    limits: Sequence[Limit],
    *,
    excluded: Collection[frozenset[str]] = (),
    below_loss: float | None = None,
    rules: Rules = FREE,
    pairs: Mapping[tuple[str, str], float] = NO_PAIRS,
) -> Plan | None:
    """The plan of least loss within every limit and rule, or None where there is none.

    `excluded` plans are not given again; `below_loss` asks for a strictly better one; `pairs` is
    what two options cost together beyond the sum of what each costs alone.
    """
    tried = list(excluded)
    while True:
        plan = _solve(options, losses, limits, tried, below_loss, rules, pairs)
        if plan is None or all(cap.holds(plan.options) for cap in rules.caps):
            return plan
        tried.append(frozenset(plan.options))  # over a cap by less than the solver can tell


def _solve(
    options: Sequence[Option],
    losses: Mapping[str, float],
    limits: Sequence[Limit],
    excluded: Collection[frozenset[str]],
    below_loss: float | None,
    rules: Rules,
    pairs: Mapping[tuple[str, str], float],
) -> Plan | None:
    ordered = sorted(options, key=lambda option: option.id)
    at = {option.id: index for index, option in enumerate(ordered)}
    known = {*pairs, *(pair for limit in limits for pair in limit.together)}
    joint = sorted(pair for pair in known if pair[0] in at and pair[1] in at)
    column = {pair: index for index, pair in enumerate(joint, start=len(ordered))}
    if not ordered:
        free = all(limit.dense_ms <= limit.budget_ms for limit in limits) and not excluded
        free = free and not rules.removed and all(cap.holds(()) for cap in rules.caps)
        return _plan((), losses, limits, rules, pairs, ("optimal", 0.0)) if free else None
    cost = np.array([losses[o.id] for o in ordered] + [pairs.get(pair, 0.0) for pair in joint])
    scale = float(np.abs(cost).max()) or 1.0
    rows: list[tuple[dict[int, float], float]] = []
    for limit in limits:
        difference = {at[o.id]: limit.differences_ms[o.id] for o in ordered}
        difference |= {column[pair]: limit.together.get(pair, 0.0) for pair in joint}
        rows.append((difference, limit.budget_ms - limit.dense_ms))
    for cap in rules.caps:
        rows += [
            ({at[id_]: d for id_, d in row.differences.items() if id_ in at}, cap.most - row.dense)
            for row in cap.quantity.binding(cap.most)
        ]
    rows += [(dict.fromkeys(covering, 1.0), 1.0) for covering in _conflicts(ordered)]
    for site in rules.removed:
        rows.append(({at[o.id]: -1.0 for o in ordered if site in o.sites}, -1.0))
    for plan in excluded:
        row = {at[o.id]: 1.0 if o.id in plan else -1.0 for o in ordered}
        rows.append((row, len(plan) - 1.0))
    if below_loss is not None:
        row = {index: float(value) for index, value in enumerate(cost / scale)}
        rows.append((row, below_loss / scale - PREFER_FEWER))
    rows += _together([(at[one], at[other]) for one, other in joint], len(ordered))
    fewer = np.where(np.arange(len(cost)) < len(ordered), PREFER_FEWER, 0.0)
    integral = (np.arange(len(cost)) < len(ordered)).astype(int)
    found = minimise(_problem(COST_SCALE * (cost / scale + fewer), integral, rows))
    if found is None:
        return None
    taken = {o.id for o, x in zip(ordered, found.x, strict=False) if x > 0.5}
    chosen = tuple(o.id for o in options if o.id in taken)
    return _plan(chosen, losses, limits, rules, pairs, (found.status, found.gap))


def _problem(
    cost: np.ndarray, integral: np.ndarray, rows: Sequence[tuple[dict[int, float], float]]
) -> Problem:
    """Every row relative to its largest coefficient, so that one tolerance fits all units.

    A row without coefficients is kept: it says whether its bound holds at all.
    """
    entries: list[tuple[int, int, float]] = []
    upper = []
    for index, (row, bound) in enumerate(rows):
        largest = max((abs(value) for value in row.values()), default=0.0) or 1.0
        entries += [(index, column, value / largest) for column, value in row.items() if value]
        upper.append(bound / largest)
    where, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
    shape = (len(rows), len(cost))
    places = (np.array(where, int), np.array(columns, int))
    matrix = csr_array((np.array(values, float), places), shape=shape)
    return Problem(cost, matrix, np.array(upper), integral)


def _together(
    joint: Sequence[tuple[int, int]], first: int
) -> Iterator[tuple[dict[int, float], float]]:
    """y = x_i x_j by three rows; the column of the first pair is `first`."""
    for column, (one, other) in enumerate(joint, start=first):
        yield {column: 1.0, one: -1.0}, 0.0
        yield {column: 1.0, other: -1.0}, 0.0
        yield {one: 1.0, other: 1.0, column: -1.0}, 1.0


def fastest(
    options: Sequence[Option],
    losses: Mapping[str, float],
    limits: Sequence[Limit],
    *,
    rules: Rules = FREE,
    pairs: Mapping[tuple[str, str], float] = NO_PAIRS,
) -> Plan:
    """The plan of least predicted latency, summed over targets relative to their budgets."""
    plan = next_fastest(options, losses, limits, excluded=(), rules=rules, pairs=pairs)
    assert plan is not None, "rules that no plan can satisfy are refused before"
    return plan


def next_fastest(
    options: Sequence[Option],
    losses: Mapping[str, float],
    limits: Sequence[Limit],
    *,
    excluded: Collection[frozenset[str]],
    rules: Rules = FREE,
    pairs: Mapping[tuple[str, str], float] = NO_PAIRS,
) -> Plan | None:
    """The fastest of all plans but the excluded; None where there is no other."""
    times = {
        o.id: sum(limit.differences_ms[o.id] / limit.budget_ms for limit in limits) for o in options
    }
    free = [replace(limit, budget_ms=float("inf")) for limit in limits]
    plan = solve(options, times, free, excluded=excluded, rules=rules)
    if plan is None:
        return None
    return _plan(plan.options, losses, limits, rules, pairs, (plan.status, plan.gap))


def by_macs(
    options: Sequence[Option],
    losses: Mapping[str, float],
    *,
    macs: int,
    most: float,
    excluded: Collection[frozenset[str]] = (),
) -> Plan | None:
    """The plan of least loss with at most `most` MACs: the same solver, counting in place of time.

    `macs` are those of the dense network. What a FLOPs-driven choice would take, for comparison.
    """
    rules = Rules((Cap(macs_of(options, macs), most, f"{most:.0f}"),))
    return solve(options, losses, [], rules=rules, excluded=excluded)


def _conflicts(options: Sequence[Option]) -> Iterable[set[int]]:
    """For every operator, the options that would replace it."""
    covering: dict[str, set[int]] = {}
    for index, option in enumerate(options):
        for operator in option.replaces:
            covering.setdefault(operator, set()).add(index)
    return [indices for indices in covering.values() if len(indices) > 1]


def _plan(
    chosen: tuple[str, ...],
    losses: Mapping[str, float],
    limits: Sequence[Limit],
    rules: Rules,
    pairs: Mapping[tuple[str, str], float],
    proof: tuple[str, float],
) -> Plan:
    status, gap = proof
    together = sum(v for pair, v in pairs.items() if pair[0] in chosen and pair[1] in chosen)
    plan = Plan(
        options=chosen,
        predicted_ms={},
        differences_ms={},
        predicted_loss=sum(losses[id_] for id_ in chosen) + together,
        status=status,
        gap=gap,
        amounts={cap.quantity.name: cap.quantity.of(chosen) for cap in rules.caps},
    )
    return reckoned(plan, limits)


def reckoned(plan: Plan, limits: Sequence[Limit]) -> Plan:
    """The same choice with the latency that these differences predict for it."""
    differences = {x.target: {id_: x.differences_ms[id_] for id_ in plan.options} for x in limits}
    return replace(
        plan,
        predicted_ms={x.target: x.dense_ms + sum(differences[x.target].values()) for x in limits},
        differences_ms=differences,
    )
