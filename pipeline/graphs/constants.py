"""What a graph says about a value without being run: its constant, its dimensions, its users."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

SCOPES = "pkg.torch.onnx.name_scopes"
ELEMENTS = "shoal.elements"


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The array of an initialiser that nothing from outside can override, else None."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def scalar(value: ir.Value | None) -> float | None:
    array = constant(value)
    return None if array is None or array.size != 1 else float(array.reshape(()))


def dimensions(value: ir.Value) -> tuple[int | str, ...] | None:
    """Sizes as numbers, symbolic ones by name; None if the rank is not known."""
    if value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else str(d.value or "?") for d in value.shape)


def size_of(dimension: int | ir.SymbolicDim) -> int:
    """A size with every symbol taken as 1, so that a dynamic batch counts as one sample."""
    if isinstance(dimension, int):
        return dimension
    if dimension.value is None:
        return 1
    symbols: dict[str, int] = dict.fromkeys(dimension.free_symbols(), 1)
    size = dimension.evaluate(symbols)
    return size if isinstance(size, int) else 1


def elements(value: ir.Value) -> int:
    """Number of elements; dynamic sizes taken as 1, those of images as `loading` assumed them."""
    known = value.meta.get(ELEMENTS)
    if known is not None:
        return known
    return prod(size_of(d) for d in value.shape) if value.shape is not None else 1


def sole_consumer(value: ir.Value) -> ir.Node | None:
    """The one node that reads the value, if it reads it once and nothing else sees it."""
    uses = tuple(value.uses())
    if len(uses) != 1 or value.is_graph_output() or read_inside(value):
        return None
    return uses[0].node


def read_inside(value: ir.Value) -> bool:
    """Whether the body of an If or a Loop reads the value."""
    producer = value.producer()
    if producer is None:
        return False
    return any(use.node.graph is not producer.graph for use in value.uses())


def module_path(node: ir.Node) -> str:
    """Where in the torch model the node comes from; the node's own name without metadata."""
    text = node.metadata_props.get(SCOPES)
    if not text:
        return node.name or node.op_type
    scopes = [part.strip(" '\"") for part in text.strip("[]").split(",")]
    return scopes[-2] if len(scopes) > 1 else ""


def integers(node: ir.Node, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    attribute = node.attributes.get(name)
    return tuple(attribute.as_ints()) if attribute is not None else default


def integer(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return attribute.as_int() if attribute is not None else default


def number(node: ir.Node, name: str, default: float) -> float:
    attribute = node.attributes.get(name)
    return attribute.as_float() if attribute is not None else default


def text(node: ir.Node, name: str, default: str) -> str:
    attribute = node.attributes.get(name)
    return attribute.as_string() if attribute is not None else default
