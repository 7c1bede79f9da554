"""Which budget leaves no plan: each is tried alone, then each is left out.

A budget that no plan meets alone is named with the least that any plan has. Where all can be met
alone, the conflict is between them: those without which there would be a plan are named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.mapping import Option
from pipeline.planning import Limit, fastest, solve
from pipeline.plans.caps import Cap, Rules

Budget = Limit | Cap


def blame(options: Sequence[Option], limits: Sequence[Limit], rules: Rules) -> str | None:
    """The budgets that leave no plan, in words; None where there is one."""
    budgets: list[Budget] = [*limits, *rules.caps]
    if _possible(options, budgets, rules):
        return None
    if not _possible(options, [], rules):
        return f"no plan removes {', '.join(rules.removed)} together"
    alone = [b for b in budgets if not _possible(options, [b], rules)]
    if alone:
        return "; ".join(f"{_words(b)} cannot be met: {_least(options, b, rules)}" for b in alone)
    culprits = [
        budget
        for budget in budgets
        if _possible(options, [b for b in budgets if b is not budget], rules)
    ]
    names = " and ".join(map(_words, budgets))
    if not culprits:
        return f"{names} can each be met alone, but not together, nor with any one of them left out"
    without = " or ".join(map(_words, culprits))
    return f"{names} can each be met alone, but not together; without {without} there is a plan"


def _possible(options: Sequence[Option], budgets: Sequence[Budget], rules: Rules) -> bool:
    limits = [b for b in budgets if isinstance(b, Limit)]
    caps = tuple(b for b in budgets if isinstance(b, Cap))
    free = dict.fromkeys((option.id for option in options), 0.0)
    return solve(options, free, limits, rules=replace(rules, caps=caps)) is not None


def _words(budget: Budget) -> str:
    if isinstance(budget, Limit):
        return f"{budget.budget_ms:.4g} ms on {budget.target}"
    return str(budget)


def _least(options: Sequence[Option], budget: Budget, rules: Rules) -> str:
    """The least of the budgeted quantity that any plan has, where it is one sum."""
    free = replace(rules, caps=())
    nothing = dict.fromkeys((option.id for option in options), 0.0)
    if isinstance(budget, Limit):
        plan = fastest(options, nothing, [budget], rules=free)
        return f"the fastest plan is reckoned at {plan.predicted_ms[budget.target]:.4g} ms"
    quantity = budget.quantity
    first, *others = quantity.rows
    if others:
        return f"the dense network has {quantity.of(()):.0f} {quantity.unit}, no plan few enough"
    changes = nothing | {o.id: first.differences.get(o.id, 0.0) for o in options}
    plan = solve(options, changes, [], rules=free)
    assert plan is not None, "without caps there is a plan"
    least = quantity.of(plan.options)
    return f"the least of any plan is {least:.0f} {quantity.unit} (dense: {quantity.of(()):.0f})"
