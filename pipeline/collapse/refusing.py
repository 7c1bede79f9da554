"""Say for every operator that stays why it was not merged with what follows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import onnx_ir as ir

from pipeline.collapse.fusing import Form, Rules, form_of, fuse
from pipeline.collapse.layout import LAYOUT
from pipeline.collapse.structure import Block, Chain, Item
from pipeline.graphs.constants import constant, read_inside


@dataclass(frozen=True, slots=True)
class Kept:
    """A boundary that stays, between the operators named, and the fact that keeps it."""

    operators: tuple[str, ...]
    reason: str


def refusals(
    model: ir.Model, chains: Sequence[Chain], rules: Rules, *, planned: bool
) -> tuple[Kept, ...]:
    found = [kept for node in model.graph if (kept := _foreign(node)) is not None]
    for chain in chains:
        found += _within(chain, rules, planned)
        if any(unit.weighted for unit in chain[-1].units):
            found.append(Kept(_last_names(chain[-1]), end_reason(chain[-1].output)))
    return tuple(found)


def _foreign(node: ir.Node) -> Kept | None:
    """Linear, with constant weights, and yet no unit here."""
    names = (node.name or node.op_type,)
    if node.op_type == "ConvTranspose":
        return Kept(
            names, f"{names[0]} is a ConvTranspose, which spreads pixels instead of reading"
        )
    if node.op_type == "MatMul" and constant(node.inputs[0]) is not None:
        return Kept(names, f"{names[0]} has its weights on the left, so it mixes positions")
    if node.op_type == "Conv" and constant(node.inputs[1]) is None:
        return Kept(names, f"{names[0]} has weights that are computed")
    return None


def _within(chain: Chain, rules: Rules, planned: bool) -> Iterator[Kept]:
    for item in chain:
        if isinstance(item, Block):
            yield from _within(item.branch, rules, planned)
            yield from _within(item.shortcut, rules, planned)
            last = _last_names(item.branch[-1])
            yield Kept((*last, item.add.name or ""), _apart([item], rules, planned))
    for one, two in pairwise(chain):
        yield Kept((*_last_names(one), *_first_names(two)), _apart([one, two], rules, planned))


def _apart(items: Sequence[Item], rules: Rules, planned: bool) -> str:
    form = fuse(items, rules)
    if isinstance(form, str):
        return form
    if planned:
        return "the plan keeps them apart"
    apart = [form_of(item, rules) for item in items]
    costs = [part.macs for part in apart if isinstance(part, Form)]
    if len(items) == 1:
        costs = [unit.macs for unit in items[0].units]
    return f"one {form.geometry} operator would cost {form.macs:,} MACs, apart {sum(costs):,}"


def _last_names(item: Item) -> tuple[str, ...]:
    if isinstance(item, Block):
        return (item.add.name or "",)
    return item.unit.sources.operators[-1:]


def _first_names(item: Item) -> tuple[str, ...]:
    if isinstance(item, Block):
        return _first_names(item.branch[0])
    return item.unit.sources.operators[:1]


def end_reason(value: ir.Value) -> str:
    """What stands behind a chain."""
    if value.is_graph_output():
        return f"{value.name} is an output of the graph"
    if read_inside(value):
        return f"{value.name} is read inside the body of another node"
    readers = list(dict.fromkeys(use.node for use in value.uses()))
    if len(readers) == 1:
        return _reader_reason(readers[0])
    return f"{value.name} feeds {', '.join(str(node.name) for node in readers)}"


def _reader_reason(node: ir.Node) -> str:
    if node.op_type == "Add":
        if any(constant(value) is not None for value in node.inputs):
            return f"{node.name} adds a constant that differs from position to position"
        return f"{node.name} adds another tensor, which does not come from the same input"
    if node.op_type in LAYOUT:
        return f"{node.op_type} {node.name} follows, behind which no operator acts on the channels"
    return f"{node.op_type} {node.name} follows, which is not linear per channel"
