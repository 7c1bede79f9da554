"""Cut a chain into merged operators, exactly the cheapest way.

    best[j] = min over i < j of  best[i] + cost(items i..j as one operator)

A Block in the chain costs its own best cut where it stays, or nothing but its one operator where
it is fused, so nested shortcuts are decided in the same recursion. Greedy would not do: in an
inverted residual the first pair alone costs more and the whole block less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.collapse.fusing import Form, Rules, extend, form_of, fuse
from pipeline.collapse.structure import Block, Chain, Item

Cost = tuple[int, int]
Weigh = Callable[[int, int], Cost]


@dataclass(frozen=True, slots=True)
class Merge:
    """Items that become one operator."""

    items: Chain
    form: Form


@dataclass(frozen=True, slots=True)
class Cut:
    """What to merge in a chain, and why its neighbours stay apart."""

    merges: tuple[Merge, ...]
    cost: Cost


def fewest_macs(macs: int, operators: int) -> Cost:
    return macs, operators


def fewest_operators(macs: int, operators: int) -> Cost:
    return operators, macs


def cut(chain: Sequence[Item], rules: Rules, weigh: Weigh) -> Cut:
    """The cheapest way; of equals, the one that starts its last merge first."""
    best: list[Cut | None] = [Cut((), (0, 0))] + [None] * len(chain)
    for start in range(len(chain)):
        before = best[start]
        assert before is not None
        form = None
        for end in range(start + 1, len(chain) + 1):
            item = chain[end - 1]
            form = form_of(item, rules) if form is None else extend(form, item, rules)
            piece = _piece(chain[start:end], form, rules, weigh)
            if piece is not None:
                cost = (before.cost[0] + piece.cost[0], before.cost[1] + piece.cost[1])
                known = best[end]
                if known is None or cost < known.cost:
                    best[end] = Cut(before.merges + piece.merges, cost)
            if isinstance(form, str):
                break
    whole = best[-1]
    assert whole is not None
    return whole


def _piece(items: Sequence[Item], form: Form | str, rules: Rules, weigh: Weigh) -> Cut | None:
    """The items as one operator, a single item also as it is."""
    ways = []
    if isinstance(form, Form) and (len(items) > 1 or isinstance(items[0], Block)):
        ways.append(Cut((Merge(tuple(items), form),), weigh(form.macs, 1)))
    if len(items) == 1:
        ways.append(_kept(items[0], rules, weigh))
    return min(ways, key=lambda way: way.cost) if ways else None


def _kept(item: Item, rules: Rules, weigh: Weigh) -> Cut:
    if not isinstance(item, Block):
        return Cut((), weigh(item.unit.macs, 1))
    branch, shortcut = cut(item.branch, rules, weigh), cut(item.shortcut, rules, weigh)
    # the Add that stays is one more operator, and a MAC per element
    added = item.branch[-1]
    last = list(added.units)[-1]
    add = weigh(last.positions * last.geometry.out_channels, 1)
    costs = (branch.cost, shortcut.cost, add)
    total = (sum(cost[0] for cost in costs), sum(cost[1] for cost in costs))
    return Cut(branch.merges + shortcut.merges, total)


def chosen_groups(
    chain: Sequence[Item], rules: Rules, groups: Sequence[frozenset[str]]
) -> tuple[Merge, ...] | str:
    """Merge exactly the runs whose weights a plan names; a shortcut follows its branch."""
    merges: list[Merge] = []
    position = 0
    while position < len(chain):
        run = _named_run(chain, position, groups)
        if len(run) > 1 or (run and isinstance(run[0], Block)):
            form = fuse(run, rules)
            if isinstance(form, str):
                return form
            merges.append(Merge(run, form))
            position += len(run)
            continue
        item = chain[position]
        if isinstance(item, Block):
            for part in (item.branch, item.shortcut):
                inner = chosen_groups(part, rules, groups)
                if isinstance(inner, str):
                    return inner
                merges += inner
        position += 1
    return tuple(merges)


def _named_run(chain: Sequence[Item], start: int, groups: Sequence[frozenset[str]]) -> Chain:
    """The longest run from `start` whose weights are one group, with or without its shortcut's."""
    for end in range(len(chain), start, -1):
        run = tuple(chain[start:end])
        with_shortcut = frozenset(_weights(run))
        without = frozenset(_branch_weights(run))
        if with_shortcut in groups or without in groups:
            return run
    return ()


def _weights(items: Sequence[Item]) -> list[str]:
    return [name for item in items for unit in item.units for name in unit.sources.weights]


def _branch_weights(items: Sequence[Item]) -> list[str]:
    names: list[str] = []
    for item in items:
        if isinstance(item, Block):
            names += _branch_weights(item.branch)
        else:
            names += item.unit.sources.weights
    return names
