"""`shoal gate`: every check of every model on every target, one verdict, files for CI."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic

from pydantic import TypeAdapter
from rich.table import Table

from pipeline.devices.gating import Job, check_on, drifts
from pipeline.reporting.progress import Reporter
from profiles import checks, exporters
from profiles.checks import Check
from profiles.exporters import Outcome
from profiles.fitness import judge
from profiles.gate import FAIL, PASS
from profiles.measurement import Measurement, write_atomically
from profiles.predictions import read_correct
from runtimes.errors import InputError, NothingMeasured

FILES = ("gate.json", "junit.xml", "summary.md", "github-action-benchmark.json", "bencher.json",
         "pytest-benchmark.json")  # fmt: skip
EXIT_CODES = {PASS: 0, FAIL: 3}
OTHERWISE = 4


@dataclass(frozen=True, slots=True)
class Timing:
    """One side of one comparison."""

    model: str
    target: str
    sha256: str
    median_ms: float
    interval_ms: tuple[float, float]
    rounds: int
    identity: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class GateDocument:
    schema: str
    verdict: str
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]
    measured: tuple[Timing, ...]
    margin: float
    alpha: float
    looks: tuple[int, ...]
    seconds: float
    files: tuple[str, ...]


def gate(job: Job, out: Path, reporter: Reporter) -> GateDocument:
    """Check everything, then write every file; after an error there is none, old or new."""
    absent = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        _clear(out)
        return _checked(job, out, reporter)
    except BaseException:
        for folder in absent:  # made for this gate; what holds anything stays
            with suppress(OSError):
                folder.rmdir()
        raise


def _checked(job: Job, out: Path, reporter: Reporter) -> GateDocument:
    started = monotonic()
    found: list[Check] = []
    measured: dict[str, Measurement] = {}
    for index in range(len(job.candidates)):
        for place in range(len(job.targets)):
            one = check_on(job, index, place, reporter)
            found += one.checks
            measured |= one.measurements
        if len(job.targets) > 1:
            found += drifts(job, index)
    if job.predictions:
        found.append(_accuracy(job))
    found = checks.corrected(found, job.rule.alpha)
    outcome = Outcome(checks.overall(found), tuple(found), measured, monotonic() - started)
    files = {name: out / name for name in ("gate.json", *_texts(outcome))}
    document = _document(job, outcome, tuple(str(path) for path in files.values()))
    _write(out, {**_texts(outcome), "gate.json": as_json(document)})
    _tell_github(outcome)
    return document


def _accuracy(job: Job) -> Check:
    baseline, candidate = read_correct(*job.predictions)
    name = job.labels[0] if job.candidates else job.predictions[1].stem
    return checks.accuracy(
        name, baseline, candidate, margin=job.accuracy_margin, alpha=job.rule.alpha
    )


def _clear(out: Path) -> None:
    """Refuse a place that cannot be written before minutes are spent, and forget an older gate."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "gate.json", "")
        for name in FILES:
            (out / name).unlink(missing_ok=True)
    except OSError as e:
        raise InputError(f"--out {out} cannot be written ({e.strerror}): choose another") from e


def _texts(outcome: Outcome) -> dict[str, str]:
    """File name to content, for people and for CI systems."""
    now = datetime.now(timezone.utc).isoformat()
    texts = {"junit.xml": exporters.junit(outcome), "summary.md": exporters.markdown(outcome)}
    fit = {name: one for name, one in outcome.measurements.items() if judge([one]).fit}
    if fit:  # a trend has no place for a remark
        texts |= {
            "github-action-benchmark.json": exporters.github_action_benchmark(fit),
            "bencher.json": exporters.bencher(fit),
            "pytest-benchmark.json": exporters.pytest_benchmark(fit, now),
        }
    return texts


def as_json(document: GateDocument) -> str:
    return TypeAdapter(GateDocument).dump_json(document, indent=2).decode() + "\n"


def _write(out: Path, texts: Mapping[str, str]) -> None:
    try:
        for name, text in texts.items():
            write_atomically(out / name, text)
    except OSError as e:
        for name in FILES:
            (out / name).unlink(missing_ok=True)
        raise NothingMeasured(
            f"the gate's files could not be written to {out} ({e.strerror}): none was kept"
        ) from e


def _tell_github(outcome: Outcome) -> None:
    """Annotations go to the log, which GitHub reads wherever it was printed; the summary too."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return
    sys.stderr.write(exporters.github_annotations(outcome))
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        try:
            with Path(summary).open("a") as file:
                file.write(exporters.markdown(outcome) + "\n")
        except OSError as e:  # the verdict stands, in the files and in the exit code
            sys.stderr.write(f"::warning::no step summary in {summary}: {e.strerror}\n")


def _document(job: Job, outcome: Outcome, files: tuple[str, ...]) -> GateDocument:
    return GateDocument(
        schema="shoal.gate/1",
        verdict=outcome.verdict,
        reasons=tuple(
            f"{check.name}: {check.reason}"
            for check in outcome.checks
            if check.verdict == outcome.verdict
        ),
        checks=outcome.checks,
        measured=tuple(
            Timing(
                str(one.artifact.path), one.target, one.artifact.sha256, one.median_ms,
                one.interval_ms, len(one.rounds), one.identity,
            )
            for one in outcome.measurements.values()
        ),
        margin=job.rule.margin,
        alpha=job.rule.alpha,
        looks=job.rule.looks,
        seconds=outcome.seconds,
        files=files,
    )  # fmt: skip


def exit_code(document: GateDocument) -> int:
    return EXIT_CODES.get(document.verdict, OTHERWISE)


def show_gate(document: GateDocument) -> Table:
    table = Table("verdict", "model", "check", "target", "measured", "why",
                  title=f"gate: {document.verdict}")  # fmt: skip
    for check in document.checks:
        figures = exporters.figures(check)
        table.add_row(
            check.verdict, check.model, check.kind, check.target or "", figures, check.reason
        )
    return table
