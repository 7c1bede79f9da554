"""What a network takes besides time: MACs, operators, bytes of weights, and its memory peak.

    weights(plan)  bytes of the initialisers that the built network has; a plan's span frees those
                   that it alone reads
    peak(plan)     weights + max over steps t of the bytes of all values that are alive at t

A value is alive from the step that makes it to the last that reads it, in graph order, for one
sample. A replaced span is one step, where its last operator was: its input lives until there, what
was inside is gone. That is an *estimate*: runtimes fuse activations, reuse buffers and pad
channels, each in its own way. What a runtime really takes is `peak_bytes` of `shoal bench`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir

from pipeline.graphs.constants import elements
from pipeline.mapping import Map, Option, Segment
from pipeline.plans.caps import Quantity, Row


def macs_of(options: Iterable[Option], dense: int) -> Quantity:
    changes = {option.id: float(option.macs - option.macs_before) for option in options}
    return Quantity("macs", "MACs", (Row(float(dense), changes),))


def operators_of(map_: Map) -> Quantity:
    """Operators with weights, absorbed projections counted among those that go."""
    changes = {o.id: float(o.operators - len(o.replaces)) for o in map_.options}
    return Quantity("operators", "operators with weights", (Row(len(map_.operators), changes),))


def removed_of(options: Iterable[Option]) -> Quantity:
    changes = {option.id: float(len(option.sites)) for option in options}
    return Quantity("removed", "removed activations", (Row(0.0, changes),))


@dataclass(frozen=True)
class Footprint:
    """The memory of one network and of what plans make of it."""

    model: ir.Model
    map_: Map

    def weights(self) -> Quantity:
        dense = sum(_bytes(value) for value in self.model.graph.initializers.values())
        return Quantity("bytes", "bytes of weights", (Row(float(dense), self._weight_changes),))

    def peak(self) -> Quantity:
        (weights,) = self.weights().rows
        alive = [0.0] * len(self._step)
        for value in self._values:
            for step in range(*self._life(value)):
                alive[step] += _bytes(value)
        changes: list[dict[str, float]] = [dict(weights.differences) for _ in alive]
        for option in self.map_.options:
            for value, (start, end), sign in self._moves(option):
                for step in range(start, end):
                    before = changes[step].get(option.id, 0.0)
                    changes[step][option.id] = before + sign * _bytes(value)
            step = self._step[self._closing(option)]
            changes[step][option.id] += self._between(option)
        rows = zip(alive, changes, strict=True)
        return Quantity(
            "peak_bytes",
            "bytes at the estimated memory peak",
            tuple(Row(weights.dense + live, change) for live, change in rows),
        )

    @cached_property
    def _step(self) -> dict[ir.Node, int]:
        return {node: index for index, node in enumerate(self.model.graph)}

    @cached_property
    def _values(self) -> list[ir.Value]:
        made = [value for node in self.model.graph for value in node.outputs]
        return [*(v for v in self.model.graph.inputs if v.const_value is None), *made]

    @cached_property
    def _by_name(self) -> dict[str | None, ir.Value]:
        return {value.name: value for value in self._values}

    @cached_property
    def _gone(self) -> dict[str, set[ir.Node]]:
        """By option: the nodes that nothing needs any more."""
        return {option.id: self._dead(option) for option in self.map_.options}

    @cached_property
    def _weight_changes(self) -> dict[str, float]:
        changes = {}
        for option in self.map_.options:
            gone = self._gone[option.id]
            read = {
                v
                for node in gone
                for v in node.inputs
                if v is not None and v.const_value is not None
            }
            freed = sum(_bytes(v) for v in read if all(use.node in gone for use in v.uses()))
            changes[option.id] = float(option.parameters * self._itemsize(option) - freed)
        return changes

    def _itemsize(self, option: Option) -> float:
        first = self._segment(option).operators[option.first]
        dtype = self.model.graph.initializers[first.weight].dtype or ir.DataType.FLOAT
        return dtype.itemsize

    def _segment(self, option: Option) -> Segment:
        return self.map_.segment(option.segment)

    def _ends(self, option: Option) -> tuple[ir.Value, ir.Value]:
        """What the span reads and what it makes."""
        source, end = self._segment(option).ends(option)
        return self._by_name[source], self._by_name[end]

    def _closing(self, option: Option) -> ir.Node:
        closing = self._ends(option)[1].producer()
        assert closing is not None, f"{option.id} ends at an input of the graph"
        return closing

    def _dead(self, option: Option) -> set[ir.Node]:
        source = self._ends(option)[0]
        gone: set[ir.Node] = set()
        waiting = [self._closing(option)]
        while waiting:
            node = waiting.pop()
            outside = [
                use for o in node.outputs for use in o.uses() if use.node not in gone
            ]  # of the closing node these read the replacement
            if gone and (outside or any(o.is_graph_output() for o in node.outputs)):
                continue
            gone.add(node)
            waiting += [
                producer
                for value in node.inputs
                if value is not None
                and value is not source
                and (producer := value.producer()) is not None
                and producer not in gone
            ]
        return gone

    def _life(self, value: ir.Value) -> tuple[int, int]:
        """The steps from `start` up to, not including, `end`."""
        producer = value.producer()
        start = self._step.get(producer, 0) if producer is not None else 0
        last = max((self._step.get(use.node, start) for use in value.uses()), default=start)
        return start, len(self._step) if value.is_graph_output() else last + 1

    def _moves(self, option: Option) -> Iterable[tuple[ir.Value, tuple[int, int], int]]:
        """Values that live shorter (-1) or longer (+1) with the option, and when."""
        source, end = self._ends(option)
        gone = self._gone[option.id]
        for node in gone:
            for value in node.outputs:
                if value is not end or option.kind == "drop":
                    yield value, self._life(value), -1
        until = (
            self._life(end)[1] if option.kind == "drop" else self._step[self._closing(option)] + 1
        )
        lived = self._life(source)[1]
        if until > lived:
            yield source, (lived, until), 1

    def _between(self, option: Option) -> float:
        """What a replacement of several steps holds in between."""
        if option.rank is None:
            return 0.0
        operator = self._segment(option).operators[option.last]
        return float(option.rank * operator.positions * self._itemsize(option))


def quantities(model: ir.Model, map_: Map) -> Sequence[Quantity]:
    """Everything that can be capped, in the order of the flags."""
    footprint = Footprint(model, map_)
    return (
        macs_of(map_.options, map_.macs),
        footprint.weights(),
        footprint.peak(),
        operators_of(map_),
        removed_of(map_.options),
    )


def _bytes(value: ir.Value) -> int:
    itemsize = value.dtype.itemsize if value.dtype is not None else 4
    if value.const_value is not None:
        return int(value.const_value.nbytes)
    return elements(value) * int(itemsize)
