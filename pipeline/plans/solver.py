"""The least cost of a choice under linear rows, and how far it is proven.

    minimise c x     subject to  A x <= b,  x in {0, 1}, or in [0, 1] where it need not be integral

by HiGHS. A large problem is first made small by its linear relaxation of value L and reduced costs
r >= 0: with any plan of cost U at hand, a variable with r_j > U - L stays where the relaxation has
it in every better plan. So only the variables of least r are solved for, which gives U, and then,
if that left some of r_j <= U - L out, those as well. Nothing that could be better is ever lost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import Bounds, linprog, milp
from scipy.sparse import csr_array, hstack, vstack

EXACT = 400  # variables up to which the optimum is proven outright
KERNEL = 60  # variables of a large problem that are solved for first
LARGE_GAP = 1e-2  # of the cost: what is left unproven of a large problem, at most
ROUNDING = 1e-9  # a gap of less is none
INFEASIBLE = 2  # HiGHS status of scipy.optimize


@dataclass(frozen=True, slots=True)
class Problem:
    """cost (n,), rows (m, n), upper (m,), integral (n,) of 0 and 1."""

    cost: np.ndarray
    rows: csr_array
    upper: np.ndarray
    integral: np.ndarray


@dataclass(frozen=True, slots=True)
class Solution:
    """`gap`: (cost - proven bound) / cost."""

    x: np.ndarray
    cost: float
    status: str
    gap: float


def minimise(problem: Problem, *, exact: int = EXACT) -> Solution | None:
    """The least cost, or None where no choice satisfies the rows."""
    if len(problem.cost) <= exact:
        return _solve(problem, 0.0)
    relaxed = linprog(
        problem.cost,
        A_ub=problem.rows,
        b_ub=problem.upper,
        bounds=(0.0, 1.0),
        method="highs-ds",
    )
    if relaxed.status == INFEASIBLE:
        return None
    if relaxed.x is None:
        raise RuntimeError(f"the solver stopped without a relaxation: {relaxed.message}")
    reduced = np.maximum(relaxed.lower.marginals, -relaxed.upper.marginals)
    order = np.argsort(reduced, kind="stable")
    size = KERNEL
    while True:
        free = order[:size]
        found = _on(problem, free, np.round(relaxed.x))
        if found is None:
            if size >= len(order):
                return None
            size = min(2 * size, len(order))
            continue
        needed = int((reduced <= found.cost - relaxed.fun).sum())
        gap = (found.cost - relaxed.fun) / abs(found.cost) if found.cost else 0.0
        if needed <= size:
            return found if found.gap <= gap else replace(found, gap=gap)
        if gap <= LARGE_GAP:
            return _stated(found, gap)
        size = needed


def _on(problem: Problem, free: np.ndarray, at: np.ndarray) -> Solution | None:
    """As `_solve`, with all variables but the `free` ones held where `at` has them.

    What the held ones cost is one more variable, held at 1, so that the gap is of the whole cost.
    """
    held = at.copy()
    held[free] = 0.0
    base = csr_array((problem.rows @ held).reshape(-1, 1))
    at_one = csr_array(([-1.0], ([0], [len(free)])), shape=(1, len(free) + 1))
    smaller = Problem(
        cost=np.append(problem.cost[free], problem.cost @ held),
        rows=csr_array(vstack([hstack([problem.rows[:, free], base]), at_one])),
        upper=np.append(problem.upper, -1.0),
        integral=np.append(problem.integral[free], 0),
    )
    found = _solve(smaller, LARGE_GAP)
    if found is None:
        return None
    held[free] = found.x[:-1]
    return replace(found, x=held)


def _solve(problem: Problem, allowed_gap: float) -> Solution | None:
    found = milp(
        problem.cost,
        integrality=problem.integral,
        bounds=Bounds(0.0, 1.0),
        constraints=(problem.rows, -np.inf, problem.upper),
        options={"mip_rel_gap": allowed_gap},
    )
    if found.status == INFEASIBLE:
        return None
    if found.x is None:
        raise RuntimeError(f"the solver stopped without a plan: {found.message}")
    answer = Solution(found.x, float(found.fun), "optimal", 0.0)
    proven = found.status == 0 and found.mip_gap <= ROUNDING
    return answer if proven else _stated(answer, found.mip_gap)


def _stated(found: Solution, gap: float) -> Solution:
    return replace(found, status=f"within {100 * gap:.2g} % of the least loss", gap=float(gap))
