"""What every option changes on a target, measured in one of two ways and kept in the registry.

isolated    the operators that an option replaces, and what it puts there, each a network of its own
            timed as a multiple of the yardstick:   d = (after - before) * yardstick
in context  the whole network with the option beside dense:   d = relative * dense

The rule: in context where that, loading included, takes no longer than `CONTEXT_S`, isolated
elsewhere. In context is the very quantity that a plan adds up, caches and layouts included, but
every sample costs the network twice and its noise is a share of the whole network: the difference
of one option of a slow network drowns in it. Isolated, an operator's time is resolved to a share of
itself, equal pieces are measured once, and the closed loop, which measures whole plans in context,
corrects the rest.

An entry is kept under the geometry of what was measured and the conditions: the device's decisive
facts, runtime and version, threads, batch and settings. One whose interval is too wide is measured
once more, the narrower kept; it is marked where that is still too wide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import hypot
from typing import Literal

import onnx_ir as ir
from pydantic import TypeAdapter

from pipeline.graphs.building import build
from pipeline.mapping import Option
from pipeline.planning import LatencyTable
from pipeline.plans.pace import block_s
from pipeline.plans.pieces import Piece, cut_out, geometry_of, weight_bytes
from pipeline.plans.workbench import Bench, Kept
from pipeline.reporting.progress import Reporter
from profiles.statistics import Estimate
from profiles.store import Store
from profiles.target import Target

CONTEXT_S = 30.0
CONTEXT_LAPS = 2  # block pairs per option and round
PIECE_RUNS, PIECE_BLOCK_S = 5, 0.02
BATCH_BYTES = 2**29  # of networks on disk and in the worker at once
BATCH_COUNT = 64  # of networks between two saves: what an interruption costs at most
WIDEST = {"isolated": 0.1, "in context": 0.05}  # half the interval: of the piece, of dense

Method = Literal["isolated", "in context"]


@dataclass(frozen=True, slots=True)
class Entry:
    """`relative` to the yardstick, or the difference to dense relative to dense."""

    what: str
    relative: Estimate
    rounds: int
    stable: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One option and the geometries that it was reckoned from: `after` alone if in context."""

    option: str
    before: str | None
    after: str | None
    difference_ms: Estimate


@dataclass(frozen=True, slots=True)
class Tabulated:
    """`fresh`: the geometries that were measured now; the other `entries` were in the registry."""

    target: str
    method: Method
    dense_ms: Estimate
    yardstick_ms: float
    rows: tuple[Row, ...]
    entries: Mapping[str, Entry]
    fresh: frozenset[str]

    @property
    def table(self) -> LatencyTable:
        differences = {row.option: row.difference_ms for row in self.rows}
        return LatencyTable(self.target, self.dense_ms, differences)

    @property
    def unstable(self) -> int:
        return sum(not entry.stable for entry in self.entries.values())

    @property
    def summary(self) -> str:
        cached = len(self.entries) - len(self.fresh)
        unstable = f", {self.unstable} of them unstable" if self.unstable else ""
        return (
            f"{len(self.rows)} options from {len(self.entries)} entries measured {self.method}, "
            f"{cached} of them in an earlier job{unstable}"
        )


ENTRY = TypeAdapter(Entry)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A network to be timed, built when its turn comes."""

    what: str
    nbytes: int
    build: Callable[[], ir.Model]


def tabulate(
    bench: Bench,
    target: Target,
    kept: Kept,
    options: Sequence[Option],
    store: Store,
    reporter: Reporter,
    *,
    fresh: bool = False,
) -> Tabulated:
    """The table of these options on the target; `fresh` reads nothing from the store."""
    method = method_for(
        kept.measured.latency_ms.value, len(options), bench.rounds, load_ms=kept.load_ms
    )
    cuts = _cuts(bench, options) if method == "isolated" else None
    if cuts is None:
        method = "in context"
        asked, sides = _networks(bench, options)
    else:
        asked, sides = cuts
    known = {} if fresh else store.latencies(kept.conditions, list(asked))
    entries = {geometry: ENTRY.validate_json(record) for geometry, record in known.items()}
    missing = [geometry for geometry in asked if geometry not in entries]
    name = f"latency table of {target.name}, {len(missing)} of {len(asked)} {method}"
    with reporter.task(name, bench.rounds * len(missing)) as step:
        for batch in _batches(missing, asked):
            made = _measure(bench, target, method, {g: asked[g] for g in batch}, step)
            records = {
                geometry: ENTRY.dump_json(entry).decode() for geometry, entry in made.items()
            }
            store.keep_latencies(kept.conditions, records)
            entries |= made
    return Tabulated(
        target=target.name,
        method=method,
        dense_ms=kept.measured.latency_ms,
        yardstick_ms=kept.yardstick_ms,
        rows=tuple(_row(option, *sides[option.id], entries, kept) for option in options),
        entries={geometry: entries[geometry] for geometry in asked},
        fresh=frozenset(missing),
    )


def method_for(dense_ms: float, options: int, rounds: int, *, load_ms: float) -> Method:
    """What the rule says of a network of that latency, which every round loads once an option."""
    in_context_s = options * rounds * (CONTEXT_LAPS * 2 * block_s(dense_ms) + load_ms / 1e3)
    return "in context" if in_context_s <= CONTEXT_S else "isolated"


Sides = dict[str, tuple[str | None, str | None]]


def _cuts(bench: Bench, options: Sequence[Option]) -> tuple[dict[str, _Asked], Sides] | None:
    """Every piece once, and by option those before and after; None if one cannot stand alone."""
    asked: dict[str, _Asked] = {}
    sides: Sides = {}
    for option in options:
        cut = cut_out(bench.dense, bench.map, option, seed=bench.seed)
        if isinstance(cut, str):
            return None
        for piece, side in ((cut.before, 0), (cut.after, 1)):
            if piece is not None and piece.geometry not in asked:
                asked[piece.geometry] = _Asked(
                    piece.what, piece.nbytes, lambda o=option, s=side: _piece(bench, o, s).model
                )
        sides[option.id] = (cut.before.geometry, cut.after.geometry if cut.after else None)
    return asked, sides


def _piece(bench: Bench, option: Option, side: int) -> Piece:
    cut = cut_out(bench.dense, bench.map, option, seed=bench.seed)
    assert not isinstance(cut, str), "it was cut out before"
    piece = (cut.before, cut.after)[side]
    assert piece is not None, "a piece that is not there is not asked for"
    return piece


def _networks(bench: Bench, options: Sequence[Option]) -> tuple[dict[str, _Asked], Sides]:
    sized = [f" {name} {size}" for name, size in sorted(bench.sizes.items())]
    dense, nbytes = "".join((geometry_of(bench.dense), *sized)), weight_bytes(bench.dense)
    asked: dict[str, _Asked] = {}
    sides: Sides = {}
    for option in options:
        geometry = f"{dense}/{option.id}"
        asked[geometry] = _Asked(
            option.id,
            nbytes,
            lambda o=option: build(bench.dense, bench.map, [o], seed=bench.seed),
        )
        sides[option.id] = (None, geometry)
    return asked, sides


def _batches(missing: Iterable[str], asked: Mapping[str, _Asked]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for geometry in missing:
        full = len(batch) == BATCH_COUNT
        if batch and (full or size + asked[geometry].nbytes > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(geometry)
        size += asked[geometry].nbytes
    if batch:
        yield batch


def _measure(
    bench: Bench,
    target: Target,
    method: Method,
    asked: Mapping[str, _Asked],
    step: Callable[[int], None],
) -> dict[str, Entry]:
    """One batch, and what came out too wide of it once more."""
    found = _once(bench, target, method, asked, step)
    wide = {geometry: asked[geometry] for geometry, entry in found.items() if not entry.stable}
    if wide:
        for geometry, again in _once(bench, target, method, wide, lambda _: None).items():
            found[geometry] = min(found[geometry], again, key=lambda e: _half(e.relative))
    return found


def _once(
    bench: Bench,
    target: Target,
    method: Method,
    asked: Mapping[str, _Asked],
    step: Callable[[int], None],
) -> dict[str, Entry]:
    models = [one.build for one in asked.values()]
    if method == "isolated":
        found = bench.beside(
            bench.yardstick,
            target,
            models,
            step=step,
            min_runs=PIECE_RUNS,
            block_s=PIECE_BLOCK_S,
        )
    else:
        ratios = bench.beside(bench.dense_path, target, models, step=step, laps=CONTEXT_LAPS)
        found = [replace(x, value=x.value - 1, lo=x.lo - 1, hi=x.hi - 1) for x in ratios]
    entries = {}
    for (geometry, one), relative in zip(asked.items(), found, strict=True):
        widest = WIDEST[method] * (relative.value if method == "isolated" else 1.0)
        entries[geometry] = Entry(one.what, relative, bench.rounds, _half(relative) <= widest)
    return entries


def _half(estimate: Estimate) -> float:
    return (estimate.hi - estimate.lo) / 2


def _row(
    option: Option,
    before: str | None,
    after: str | None,
    entries: Mapping[str, Entry],
    kept: Kept,
) -> Row:
    nothing = Estimate(0.0, 0.0, 0.0, 1.0)
    new = entries[after].relative if after else nothing
    if before is None:
        change, unit_ms = new, kept.measured.latency_ms.value
    else:
        change, unit_ms = _minus(new, entries[before].relative), kept.yardstick_ms
    scaled = replace(
        change, value=change.value * unit_ms, lo=change.lo * unit_ms, hi=change.hi * unit_ms
    )
    return Row(option.id, before, after, scaled)


def _minus(one: Estimate, other: Estimate) -> Estimate:
    """Of independent measurements: the arms of their intervals add in squares."""
    value = one.value - other.value
    below = hypot(one.value - one.lo, other.hi - other.value)
    above = hypot(one.hi - one.value, other.value - other.lo)
    return Estimate(value, value - below, value + above, min(one.confidence, other.confidence))
