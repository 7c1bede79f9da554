"""The linear parts of a graph as series and parallel items.

    item  = Leaf (one unit) | Block (branch items + shortcut items, summed by an Add)
    chain = items in a row, each value between them read by the next item alone

A Block is found from its Add backwards: both operands lead, through units and inner Blocks that
nothing else reads, to one common value. So nested shortcuts come out inside-out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from pipeline.collapse.reading import unit_of
from pipeline.collapse.units import Unit
from pipeline.graphs.constants import read_inside


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    unit: Unit

    @property
    def input(self) -> ir.Value:
        return self.unit.input

    @property
    def output(self) -> ir.Value:
        return self.unit.output

    @property
    def entries(self) -> set[ir.Node]:
        """The nodes that read the item's input."""
        return {self.unit.node}

    @property
    def units(self) -> Iterator[Unit]:
        yield self.unit


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """`branch(x) + shortcut(x)`; an empty shortcut is the identity."""

    add: ir.Node
    input: ir.Value
    branch: tuple[Leaf | Block, ...]
    shortcut: tuple[Leaf | Block, ...]

    @property
    def output(self) -> ir.Value:
        return self.add.outputs[0]

    @property
    def entries(self) -> set[ir.Node]:
        found = set(self.branch[0].entries)
        return found | (self.shortcut[0].entries if self.shortcut else {self.add})

    @property
    def units(self) -> Iterator[Unit]:
        for item in (*self.branch, *self.shortcut):
            yield from item.units


Item = Leaf | Block
Chain = tuple[Item, ...]


def find_chains(model: ir.Model) -> tuple[Chain, ...]:
    """All maximal chains, in graph order."""
    by_closing = {
        unit.closing: Leaf(unit) for node in model.graph if (unit := unit_of(node)) is not None
    }
    blocks: dict[ir.Node, Block] = {}
    for node in model.graph:
        if node not in by_closing and (block := _block(node, by_closing, blocks)) is not None:
            blocks[node] = block
    inside = {unit.node for block in blocks.values() for unit in block.units}
    nested = {inner.add for block in blocks.values() for inner in _inner_blocks(block)}
    tops: list[Item] = [leaf for leaf in by_closing.values() if leaf.unit.node not in inside]
    tops += [block for add, block in blocks.items() if add not in nested]
    return tuple(_link(tops, model))


def _inner_blocks(block: Block) -> Iterator[Block]:
    for item in (*block.branch, *block.shortcut):
        if isinstance(item, Block):
            yield item
            yield from _inner_blocks(item)


def _block(
    add: ir.Node, leaves: Mapping[ir.Node, Leaf], blocks: Mapping[ir.Node, Block]
) -> Block | None:
    if add.op_type != "Add" or len(add.inputs) != 2:
        return None
    one, two = add.inputs
    if one is None or two is None or one is two or one.shape is None or one.shape != two.shape:
        return None
    first, second = (_backwards(value, add, leaves, blocks) for value in (one, two))
    for value, items in first.items():
        if value in second:
            sides = sorted((items, second[value]), key=_extent, reverse=True)
            return Block(add, value, sides[0], sides[1]) if sides[0] else None
    return None


def _backwards(
    value: ir.Value,
    reader: ir.Node,
    leaves: Mapping[ir.Node, Leaf],
    blocks: Mapping[ir.Node, Block],
) -> dict[ir.Value, Chain]:
    """Values that lead to `reader` through items alone, with the items in between."""
    entries = {reader}
    items: Chain = ()
    found: dict[ir.Value, Chain] = {value: items}
    while read_only_by(value, entries):
        producer = value.producer()
        item = leaves.get(producer) or blocks.get(producer) if producer is not None else None
        if item is None:
            break
        items = (item, *items)
        entries, value = item.entries, item.input
        found[value] = items
    return found


def read_only_by(value: ir.Value, nodes: set[ir.Node]) -> bool:
    if value.is_graph_output() or read_inside(value):
        return False
    return {use.node for use in value.uses()} == nodes


def _extent(items: Chain) -> tuple[int, int]:
    """The branch is the side with more operators, then with the larger kernels."""
    units = [unit for item in items for unit in item.units]
    return len(units), sum(sum(unit.geometry.kernel) for unit in units)


def _link(tops: Sequence[Item], model: ir.Model) -> Iterator[Chain]:
    order = {node: index for index, node in enumerate(model.graph)}
    by_output = {item.output: item for item in tops}
    following: dict[Item, Item] = {}
    for item in tops:
        before = by_output.get(item.input)
        if before is not None and read_only_by(item.input, item.entries):
            following[before] = item
    starts = set(tops) - set(following.values())
    for item in sorted(starts, key=lambda item: min(order[node] for node in item.entries)):
        chain = [item]
        while chain[-1] in following:
            chain.append(following[chain[-1]])
        yield tuple(chain)
