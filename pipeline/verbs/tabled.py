"""`shoal table`: build the latency table of a network on a target, show it, write it to a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic

import onnx_ir as ir
from pydantic import TypeAdapter

from pipeline.mapping import MAX_KERNEL, Map, load_model, map_model
from pipeline.plans.latency_table import Tabulated, tabulate
from pipeline.plans.scratch import scratch
from pipeline.plans.workbench import Bench, Kept
from pipeline.reporting.output import check_out, write_out
from pipeline.reporting.progress import Reporter
from pipeline.reporting.table_document import EntryRow, OptionTime, TableDocument
from pipeline.verbs.plan_file import sizes_of
from profiles.environment import fingerprint
from profiles.store import Store, registry_folder
from profiles.target import Target, find_target
from runtimes.errors import InputError
from runtimes.onnx_file import sha256

COLUMNS = ("id", "kind", "macs_before", "macs", "difference_ms", "lo_ms", "hi_ms", "stable")


@dataclass(frozen=True, slots=True)
class TableWish:
    """What the command line asks for; `fresh` measures what the registry has as well."""

    model: Path
    target: str
    out: Path | None = None
    rounds: int = 6
    max_kernel: int = MAX_KERNEL
    seed: int = 0
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # inputs, batch in front
    fresh: bool = False


def table_file(wish: TableWish, reporter: Reporter) -> TableDocument:
    """Measure what the registry does not have; `wish.out` gets the document, or its rows."""
    started = monotonic()
    if wish.out is not None and wish.out.suffix not in {".json", ".csv"}:
        raise InputError(f"{wish.out} is neither JSON nor CSV: name it .json or .csv")
    check_out(wish.out, wish.model)
    target = find_target(wish.target)
    network = load_model(wish.model)
    map_ = map_model(network, max_kernel=wish.max_kernel)
    sizes = sizes_of(wish.shapes, network, [target])
    ir.external_data.load_to_model(network)  # variants are saved in another folder
    with (
        scratch() as folder,
        closing(Store(registry_folder())) as store,
    ):
        bench = Bench(network, map_, folder, seed=wish.seed, rounds=wish.rounds, sizes=sizes)
        reporter.say(f"measuring {wish.model.name} as it is")
        kept = bench.keep(target)
        made = tabulate(bench, target, kept, map_.options, store, reporter, fresh=wish.fresh)
    document = _document(wish, target, map_, kept, made, monotonic() - started)
    if wish.out:
        text = _csv(document) if wish.out.suffix == ".csv" else _json(document)
        write_out(text, wish.out)
    return document


def _document(
    wish: TableWish, target: Target, map_: Map, kept: Kept, made: Tabulated, seconds: float
) -> TableDocument:
    options = {option.id: option for option in map_.options}
    dense = made.dense_ms
    unit_ms = made.yardstick_ms if made.method == "isolated" else dense.value
    return TableDocument(
        model=str(wish.model),
        model_sha256=sha256(wish.model),
        max_kernel=wish.max_kernel,
        seed=wish.seed,
        shapes=dict(wish.shapes),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        target=target.name,
        runtime=target.runtime,
        runtime_version=kept.runtime_version,
        device=target.device,
        threads=target.threads,
        batch=target.batch,
        dense_ms=dense.value,
        dense_interval_ms=(dense.lo, dense.hi),
        yardstick_ms=made.yardstick_ms,
        method=made.method,
        from_cache=len(made.entries) - len(made.fresh),
        measured=len(made.fresh),
        unstable=made.unstable,
        seconds=seconds,
        options=tuple(
            OptionTime(
                id=row.option,
                segment=options[row.option].segment,
                kind=options[row.option].kind,
                kernel=options[row.option].geometry.kernel,
                sites=options[row.option].sites,
                macs=options[row.option].macs,
                macs_before=options[row.option].macs_before,
                before=row.before,
                after=row.after,
                difference_ms=row.difference_ms.value,
                interval_ms=(row.difference_ms.lo, row.difference_ms.hi),
                confidence=row.difference_ms.confidence,
                stable=all(made.entries[g].stable for g in (row.before, row.after) if g),
            )
            for row in made.rows
        ),
        entries=tuple(
            EntryRow(
                geometry=geometry,
                what=entry.what,
                relative=entry.relative.value,
                interval=(entry.relative.lo, entry.relative.hi),
                ms=entry.relative.value * unit_ms,
                rounds=entry.rounds,
                stable=entry.stable,
                cached=geometry not in made.fresh,
            )
            for geometry, entry in made.entries.items()
        ),
        fingerprint=dict(fingerprint().facts),
    )


def _json(document: TableDocument) -> str:
    return TypeAdapter(TableDocument).dump_json(document, indent=2).decode() + "\n"


def _csv(document: TableDocument) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for o in document.options:
        times = (o.difference_ms, *o.interval_ms)
        writer.writerow((o.id, o.kind, o.macs_before, o.macs, *times, o.stable))
    return text.getvalue()
