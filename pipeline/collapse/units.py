"""Linear operators as units of merging: where one is in the graph, and its float64 arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pipeline.collapse.algebra import Linear
from pipeline.graphs.geometry import Geometry

SOURCES = "shoal.sources"


@dataclass(frozen=True, slots=True)
class Sources:
    """Names in the original graph: operator nodes and their weight initialisers."""

    operators: tuple[str, ...]
    weights: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """`node` reads `input`; `closing` writes `output` (the bias Add of a MatMul, or the node)."""

    node: ir.Node
    closing: ir.Node
    input: ir.Value
    output: ir.Value
    geometry: Geometry
    positions: int
    has_bias: bool
    dtype: np.dtype
    sources: Sources
    linear: Callable[[], Linear]

    @property
    def name(self) -> str:
        return self.node.name or self.node.op_type

    @property
    def weighted(self) -> bool:
        return bool(self.sources.weights)

    @property
    def axis(self) -> int:
        """Of the channels."""
        return 1 if self.geometry.rank else -1

    @property
    def macs(self) -> int:
        """Skipping pixels is free; an average is counted as the convolution that it is."""
        return 0 if self.node.op_type == "Slice" else self.geometry.macs(self.positions)


def joined(units: Sequence[Unit]) -> Sources:
    return Sources(
        tuple(name for unit in units for name in unit.sources.operators),
        tuple(name for unit in units for name in unit.sources.weights),
    )
