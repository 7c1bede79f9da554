"""The records of a map: a segment, what is added to it, and the ways to replace a part of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.graphs.geometry import Geometry
from pipeline.graphs.operators import Operator

Kind = Literal["merge", "refit", "low-rank", "drop"]


@dataclass(frozen=True, slots=True)
class Shortcut:
    """What is added to a segment's output: its own input, or a 1x1 projection of it."""

    kind: str
    add: str
    operator: Operator | None
    output: str


@dataclass(frozen=True, slots=True)
class Option:
    """What may stand in place of `segment.operators[first : last + 1]`.

    merge     one operator with the kernel that the span really has: exact but for the activations
    refit     one operator of a smaller kernel about the same centre, fitted
    low-rank  two matrices, in x `rank` and `rank` x out, fitted
    drop      nothing: the span's input, or the shortcut alone

    `geometry` is that of the one operator; of a low rank, of the product; of a drop, of the span.
    `kept`: the share of the parameters of the merged operator that it has, 1 for the merge itself.
    `replaces`: the nodes of the operators that go, projections included; no two options of a plan
    share one.
    """

    id: str
    segment: str
    kind: Kind
    first: int
    last: int
    absorbs_shortcut: bool
    sites: tuple[str, ...]
    geometry: Geometry
    pooled: bool
    border: str
    macs: int
    macs_before: int
    replaces: tuple[str, ...]
    rank: int | None = None
    kept: float = 1.0

    @property
    def fitted(self) -> bool:
        """Whether its weights come from calibration data alone, not from the operators."""
        return self.kind in {"refit", "low-rank"}

    @property
    def kernel(self) -> tuple[int, ...]:
        """Of the operator in place of the span; empty for matrices and for nothing."""
        return () if self.kind == "drop" else self.geometry.kernel

    @property
    def operators(self) -> int:
        """Operators with weights in place of the span."""
        return {"drop": 0, "low-rank": 2}.get(self.kind, 1)

    @property
    def parameters(self) -> int:
        """Elements of all weights and biases in place of the span."""
        g = self.geometry
        if self.kind == "drop":
            return 0
        if self.rank is not None:
            return self.rank * (g.in_channels + g.out_channels) + g.out_channels
        return g.parameters + g.out_channels


@dataclass(frozen=True, slots=True)
class Segment:
    """`gaps[i]` is the site between operators i and i + 1, or None where there is none.

    A run (see `runs`) is `through` two of them; `added` are the shortcuts inside, the last one its
    own.
    """

    id: str
    input: str
    output: str
    nodes: tuple[str, ...]
    sites: tuple[str, ...]
    operators: tuple[Operator, ...]
    gaps: tuple[str | None, ...]
    glue: tuple[tuple[str, ...], ...]
    shortcut: Shortcut | None
    macs: int
    options: tuple[Option, ...] = ()
    through: tuple[str, ...] = ()
    added: tuple[Shortcut, ...] = ()

    def ends(self, option: Option) -> tuple[str, str]:
        """The values that a replacement reads and makes; of a drop, the same value afterwards.

        Where the whole of a segment with a shortcut is dropped, the shortcut is what remains.
        """
        first, last = self.operators[option.first], self.operators[option.last]
        if self.closes(option):
            assert self.shortcut is not None, "an option closes a shortcut that is not there"
            projection = self.shortcut.operator if option.kind == "drop" else None
            return projection.output if projection else first.input, self.output
        return first.input, last.output

    def closes(self, option: Option) -> bool:
        """Whether the addition of the shortcut goes too."""
        whole = (option.first, option.last) == (0, len(self.operators) - 1)
        dropped = option.kind == "drop" and whole and self.shortcut is not None
        return dropped or (option.absorbs_shortcut and self.shortcut is not None)


def numbered_calls(names: Sequence[str]) -> list[str]:
    """Every name once: of a module that is called again, the later calls end in #1, #2."""
    calls: Counter[str] = Counter()
    numbered = []
    for name in names:
        numbered.append(f"{name}#{calls[name]}" if calls[name] else name)
        calls[name] += 1
    return numbered


def common_path(paths: Sequence[str]) -> str:
    """The modules that all of the dotted paths go through."""
    split = [path.split(".") for path in paths]
    common = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common)
