"""The document of `shoal table`: what every option changes on one target, and how that is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rich.console import Group
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRow:
    """One measured thing: `relative` to the yardstick, or to dense what an option changes."""

    geometry: str
    what: str
    relative: float
    interval: tuple[float, float]
    ms: float
    rounds: int
    stable: bool
    cached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionTime:
    """`before` and `after` name the entries that the difference is of; `before` null: dense."""

    id: str
    segment: str
    kind: str
    kernel: tuple[int, ...]
    sites: tuple[str, ...]
    macs: int
    macs_before: int
    before: str | None
    after: str | None
    difference_ms: float
    interval_ms: tuple[float, float]
    confidence: float
    stable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDocument:
    """`from_cache` of the entries were in the registry, `measured` are new.

    `shapes` of inputs, batch in front, where the network leaves more than the batch open.
    `method`: each option's operators alone, or the whole network with it beside dense.
    """

    schema: Literal["shoal.table/1"] = "shoal.table/1"
    model: str
    model_sha256: str
    max_kernel: int
    seed: int
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    date: str
    target: str
    runtime: str
    runtime_version: str
    device: str
    threads: int
    batch: int
    dense_ms: float
    dense_interval_ms: tuple[float, float]
    yardstick_ms: float
    method: Literal["isolated", "in context"]
    from_cache: int
    measured: int
    unstable: int
    seconds: float
    options: tuple[OptionTime, ...]
    entries: tuple[EntryRow, ...]
    fingerprint: dict[str, str | int | None]


def show_table(document: TableDocument) -> Group:
    """The options by what they save."""
    table = Table(title=f"{document.model} on {document.target}", title_justify="left")
    for column in ("option", "removes", "MACs", "changes", ""):
        table.add_column(column)
    for option in sorted(document.options, key=lambda option: option.difference_ms):
        lo, hi = option.interval_ms
        table.add_row(
            option.id,
            "\n".join(option.sites),
            f"{option.macs / max(option.macs_before, 1):.2f}x",
            f"{option.difference_ms:+.4g} ms [{lo:+.4g}, {hi:+.4g}]",
            "" if option.stable else "unstable",
        )
    lo, hi = document.dense_interval_ms
    return Group(
        table,
        f"dense: {document.dense_ms:.4g} ms [{lo:.4g}, {hi:.4g}]",
        f"{document.from_cache + document.measured} entries measured {document.method}: "
        f"{document.from_cache} from the registry, {document.measured} now, "
        f"{document.unstable} unstable; {document.seconds:.0f} s",
    )
