"""`shoal bench`: one artifact on one target, with everything its number depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Group
from rich.table import Table

from pipeline.devices.layers import Layers, profile_layers, show_layers
from pipeline.reporting.progress import Reporter
from profiles.fitness import Fitness, judge
from profiles.measurement import Measurement, write_measurement
from profiles.rounds import Sampling, measure
from profiles.statistics import quantile_interval, samples_needed, upper_quantile
from profiles.target import Target
from runtimes.base import PRECISIONS, Artifact
from runtimes.errors import InputError

QUANTILES = (0.9, 0.95, 0.99, 0.999)
CONFIDENCE = 0.95
ALONE = Sampling(block_s=0.05, laps=5, warm_up_s=1.0)


@dataclass(frozen=True, slots=True)
class Tail:
    """One quantile of all runs; null with a reason when there are too few of them."""

    quantile: float
    value_ms: float | None
    interval_ms: tuple[float, float] | None
    upper_bound_ms: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class BenchDocument:
    schema: str
    model: str
    sha256: str
    target: str
    metric: str
    median_ms: float
    interval_ms: tuple[float, float]
    confidence: float
    p90_ms: float | None
    p99_ms: float | None
    tails: tuple[Tail, ...]
    samples: int
    rounds: int
    round_medians_ms: tuple[float, ...]
    fitness: Fitness
    identity: Mapping[str, str]
    load_ms: float
    first_inference_ms: float
    peak_bytes: int | None
    timer_overhead_ns: int
    fingerprint: Mapping[str, Any]
    unknown: Mapping[str, str]
    layers: Layers | None


def bench(
    model: Path,
    target: Target,
    reporter: Reporter,
    *,
    precision: str | None = None,
    rounds: int = 10,
    seed: int = 0,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    samples: Path | None = None,
    layers: bool = False,
) -> BenchDocument:
    """Measure the file; `precision` is what the file is expected to be."""
    found = Artifact.of(model, batch=target.batch).precision
    if precision is not None and precision != found:
        raise InputError(_another_precision(model, found, precision))
    measured = measure_alone(target, model, reporter, rounds=rounds, seed=seed, shapes=shapes)
    computed = measured.identity.get("inference_precision", found)
    if found in PRECISIONS and computed in PRECISIONS and computed != found:
        reporter.say(
            f"{model.name} is {found}, and {target.name} computes it in {computed}: that is what "
            "was measured"
        )
    if samples is not None:
        write_measurement(measured, samples)
    profiled = profile_layers(model, target, seed=seed, shapes=shapes) if layers else None
    return bench_document(measured, profiled)


def _another_precision(model: Path, found: str, asked: str) -> str:
    if asked not in PRECISIONS:
        return f"no precision {asked!r}; there are: {', '.join(PRECISIONS)}"
    if found != "fp32":
        return f"{model} is {found}, not {asked}: precision is in the graph; give that file"
    samples = " --calibration SAMPLES.npz" if asked == "int8" else ""
    return (
        f"{model} is {found}, not {asked}: precision is in the graph; make that variant with "
        f"`shoal export {model} --precision {asked}{samples}`"
    )


def measure_alone(
    target: Target,
    model: Path,
    reporter: Reporter,
    *,
    rounds: int = 10,
    seed: int = 0,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Measurement:
    """One artifact, nothing beside it."""
    with reporter.task(f"{model.name} on {target.name}", rounds) as step:
        (measured,) = measure(
            target, [model], rounds=rounds, seed=seed, shapes=shapes,
            block_s=ALONE.block_s, laps=ALONE.laps, warm_up_s=ALONE.warm_up_s,
            on_round=lambda _done: step(1), say=reporter.say,
        )  # fmt: skip
    return measured


def bench_document(measured: Measurement, layers: Layers | None = None) -> BenchDocument:
    tails = tuple(tail(measured.samples_ns(), q) for q in QUANTILES)
    estimate = measured.estimate_ms(CONFIDENCE)
    peaks = [one.peak_bytes for one in measured.rounds if one.peak_bytes is not None]
    return BenchDocument(
        schema="shoal.bench/1",
        model=str(measured.artifact.path),
        sha256=measured.artifact.sha256,
        target=measured.target,
        metric=measured.metric,
        median_ms=estimate.value,
        interval_ms=(estimate.lo, estimate.hi),
        confidence=estimate.confidence,
        p90_ms=tails[0].value_ms,
        p99_ms=tails[2].value_ms,
        tails=tails,
        samples=len(measured.samples_ns()),
        rounds=len(measured.rounds),
        round_medians_ms=tuple(measured.round_medians_ms()),
        fitness=judge([measured]),
        identity=measured.identity,
        load_ms=median(one.load_ms for one in measured.rounds),
        first_inference_ms=median(one.first_inference_ms for one in measured.rounds),
        peak_bytes=max(peaks, default=None),
        timer_overhead_ns=measured.timer_overhead_ns,
        fingerprint=measured.fingerprint.facts,
        unknown=measured.fingerprint.missing,
        layers=layers,
    )


def tail(samples_ns: Sequence[int], q: float) -> Tail:
    """The q-quantile in ms, if the samples allow to bound it."""
    upper = upper_quantile(samples_ns, q, CONFIDENCE)
    if upper is None:
        needed = samples_needed(q, CONFIDENCE)
        reason = f"{len(samples_ns)} runs are too few: p{q * 100:g} needs {needed}"
        return Tail(q, None, None, None, reason)
    estimate = quantile_interval(samples_ns, q, CONFIDENCE)
    high = min(estimate.hi, float(max(samples_ns)))
    return Tail(q, estimate.value / 1e6, (estimate.lo / 1e6, high / 1e6), upper / 1e6, None)


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """`image=1x3x224x224` for each input with dynamic dimensions."""
    shapes = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        if not name or not all(size.isdigit() for size in sizes.split("x")):
            raise InputError(f"shape {text!r} is not INPUT=SIZExSIZE...: e.g. image=1x3x224x224")
        shapes[name] = tuple(int(size) for size in sizes.split("x"))
    return shapes


def exit_code(document: BenchDocument) -> int:
    """4 when the host was not fit: the numbers are there to be looked at, not to be used."""
    return 0 if document.fitness.fit else 4


def with_batch(target: Target, batch: int | None) -> Target:
    return target if batch is None else replace(target, batch=batch)


def show_bench(document: BenchDocument) -> Table | Group:
    table = Table(title=f"{Path(document.model).name} on {document.target}", show_header=False)
    lo, hi = document.interval_ms
    rows = {
        document.metric: f"{document.median_ms:.4g} ms  [{lo:.4g}, {hi:.4g}] "
        f"at {document.confidence:.1%}",
        **{f"p{one.quantile * 100:g}": _tail_text(one) for one in document.tails},
        "evidence": f"{document.rounds} rounds, {document.samples} runs",
        "load, first inference": f"{document.load_ms:.1f} ms, {document.first_inference_ms:.2f} ms",
        "peak memory": "unknown"
        if document.peak_bytes is None
        else f"{document.peak_bytes / 2**20:.0f} MiB",
        "identity": ", ".join(f"{name} {value}" for name, value in document.identity.items()),
        "CPU": str(document.fingerprint.get("cpu_model")),
        "fitness": "; ".join([document.fitness.verdict, *document.fitness.reasons]),
        "notes": "; ".join(document.fitness.notes),
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    return table if document.layers is None else Group(table, show_layers(document.layers))


def _tail_text(one: Tail) -> str:
    if one.value_ms is None:
        return one.reason or ""
    return f"{one.value_ms:.4g} ms, at most {one.upper_bound_ms:.4g} ms"
