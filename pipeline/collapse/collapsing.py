"""Merge every linear chain of a graph, exactly, and say what was merged and what was not.

The result is checked against `reference`: the given model, with padding moved to the front where
that was allowed. The algebra is exact between those two; what moving the padding itself changed is
a property of the request and is reported apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import onnx_ir as ir

from pipeline.collapse.applying import apply
from pipeline.collapse.cutting import Merge, chosen_groups, cut, fewest_macs, fewest_operators
from pipeline.collapse.drawing import cast_pending
from pipeline.collapse.fusing import Rules
from pipeline.collapse.moving import move_padding_in
from pipeline.collapse.refusing import Kept, refusals
from pipeline.collapse.structure import Chain, Leaf, find_chains
from pipeline.collapse.tidy import tidy
from pipeline.graphs.geometry import Geometry
from pipeline.graphs.loading import normalise
from pipeline.graphs.operators import read_operator
from pipeline.mapping import MAX_KERNEL
from runtimes.errors import InputError

How = Literal["cheaper", "always"] | Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Merged:
    """One operator that took the place of several; `output` names the value it computes."""

    operators: tuple[str, ...]
    weights: tuple[str, ...]
    op: str
    geometry: Geometry
    border: str
    absorbed_shortcut: bool
    output: str
    macs_before: int
    macs_after: int


@dataclass(frozen=True, slots=True, eq=False)
class Collapsed:
    model: ir.Model
    merges: tuple[Merged, ...]
    refusals: tuple[Kept, ...]
    reference: ir.Model


def collapse(
    model: ir.Model,
    *,
    merge: How = "cheaper",
    move_padding: bool = False,
    max_kernel: int = MAX_KERNEL,
) -> Collapsed:
    """A new model; `model` is not touched. Groups of weight names merge those and nothing else."""
    rules = Rules(max_kernel=max_kernel, move_padding=move_padding)
    work, reference = normalise(model.clone()), normalise(model.clone())
    groups = None if isinstance(merge, str) else _known_names(work, merge)
    tidy(work)
    done: list[Merged] = []
    allowed = rules
    while found := _choose(find_chains(work), merge, groups, allowed):
        # names of merged operators are not in `reference`, so padding moves in the first round only
        allowed = replace(rules, move_padding=False)
        for one in found:
            if one.form.moved:
                move_padding_in(reference, one)
            done.append(_describe(one, apply(work, one).name or ""))
        tidy(work)
    if groups is not None:
        _check_groups(groups, done)
    cast_pending(work)
    kept = refusals(work, find_chains(work), rules, planned=groups is not None)
    return Collapsed(work, tuple(done), kept, reference)


def _known_names(model: ir.Model, groups: Sequence[Sequence[str]]) -> list[frozenset[str]]:
    """Weights may be named as in the ONNX file or as in the torch model."""
    found = [operator for node in model.graph if (operator := read_operator(node)) is not None]
    alias = {operator.parameter: operator.weight for operator in found}
    return [frozenset(alias.get(name, name) for name in group) for group in groups]


def _choose(
    chains: Sequence[Chain], merge: How, groups: list[frozenset[str]] | None, rules: Rules
) -> list[Merge]:
    found: list[Merge] = []
    for chain in chains:
        if groups is None:
            weigh = fewest_macs if merge == "cheaper" else fewest_operators
            found += cut(chain, rules, weigh).merges
            continue
        chosen = chosen_groups(chain, rules, groups)
        if isinstance(chosen, str):
            raise InputError(f"the plan asks for a merge that is not exact: {chosen}")
        found += chosen
    return found


def _check_groups(groups: Sequence[frozenset[str]], done: Sequence[Merged]) -> None:
    merged = set().union(*(one.weights for one in done)) if done else set()
    for group in groups:
        missing = sorted(group - merged)
        if missing and len(group) > 1:
            raise InputError(
                f"the plan merges {', '.join(sorted(group))}, but {', '.join(missing)} is not one "
                "linear chain with the rest; linearise what stands between them first"
            )


def _describe(one: Merge, output: str) -> Merged:
    units = [unit for item in one.items for unit in item.units]
    return Merged(
        operators=tuple(name for unit in units for name in unit.sources.operators),
        weights=tuple(name for unit in units for name in unit.sources.weights),
        op="Conv" if one.form.geometry.rank else one.form.first.node.op_type,
        geometry=one.form.geometry,
        border=one.form.border,
        absorbed_shortcut=any(not isinstance(item, Leaf) for item in one.items),
        output=output,
        macs_before=sum(unit.macs for unit in units),
        macs_after=one.form.macs,
    )
