"""A gate's outcome in the words of others: JUnit, Markdown, GitHub, and three benchmark formats.

Each function is pure: the outcome in, text out. INCONCLUSIVE and UNFIT are skipped cases in
JUnit, because a red test that says "we do not know" teaches people to ignore red tests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean, quantiles, stdev
from xml.etree import ElementTree

from profiles.checks import Check
from profiles.gate import FAIL, PASS
from profiles.measurement import Measurement

SYMBOLS = {PASS: "✅", FAIL: "❌"}
UNDECIDED = "❔"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a gate found: the verdict, its checks, the measurements behind them, the seconds."""

    verdict: str
    checks: tuple[Check, ...]
    measurements: Mapping[str, Measurement]  # by a name that no other one has
    seconds: float


def junit(outcome: Outcome) -> str:
    suite = ElementTree.Element(
        "testsuite",
        name="shoal gate",
        tests=str(len(outcome.checks)),
        failures=str(sum(check.verdict == FAIL for check in outcome.checks)),
        errors="0",
        skipped=str(sum(check.verdict not in (PASS, FAIL) for check in outcome.checks)),
        time=f"{outcome.seconds:.3f}",
    )
    for check in outcome.checks:
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"shoal.{check.kind}", name=check.name, time="0"
        )
        if check.verdict == FAIL:
            failure = ElementTree.SubElement(case, "failure", message=check.reason, type=check.kind)
            failure.text = figures(check)
        elif check.verdict != PASS:
            ElementTree.SubElement(case, "skipped", message=f"{check.verdict}: {check.reason}")
        ElementTree.SubElement(case, "system-out").text = figures(check)
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def markdown(outcome: Outcome) -> str:
    rows = [
        f"| {SYMBOLS.get(check.verdict, UNDECIDED)} {check.verdict} | {_cell(check.model)} "
        f"| {check.kind} | {_cell(check.target or '')} | {_cell(figures(check))} "
        f"| {_cell(check.reason)} |"
        for check in outcome.checks
    ]
    return "\n".join(
        [
            f"## shoal gate: {SYMBOLS.get(outcome.verdict, UNDECIDED)} {outcome.verdict}",
            "",
            "| verdict | model | check | target | measured | why |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def github_annotations(outcome: Outcome) -> str:
    """Workflow commands: GitHub shows them beside the run."""
    lines = []
    for check in outcome.checks:
        level = {PASS: "notice", FAIL: "error"}.get(check.verdict, "warning")
        title = _property(f"shoal {check.verdict}: {check.name}")
        lines.append(f"::{level} title={title}::{_data(f'{check.reason} ({figures(check)})')}")
    return "\n".join(lines) + "\n"


def github_action_benchmark(measurements: Mapping[str, Measurement]) -> str:
    """The `customSmallerIsBetter` tool of github-action-benchmark."""
    return _json(
        [
            {
                "name": name,
                "unit": "ms",
                "value": one.median_ms,
                "range": "[{:.6g}, {:.6g}]".format(*one.interval_ms),
                "extra": "\n".join(f"{key}: {value}" for key, value in one.identity.items()),
            }
            for name, one in measurements.items()
        ]
    )


def bencher(measurements: Mapping[str, Measurement]) -> str:
    """Bencher Metric Format; its built-in `latency` measure is in nanoseconds."""
    return _json(
        {
            name: {
                "latency": {
                    "value": one.median_ms * 1e6,
                    "lower_value": one.interval_ms[0] * 1e6,
                    "upper_value": one.interval_ms[1] * 1e6,
                }
            }
            for name, one in measurements.items()
        }
    )


def pytest_benchmark(measurements: Mapping[str, Measurement], datetime_utc: str) -> str:
    """The JSON that `pytest-benchmark compare` reads; seconds, one datum per round."""
    facts = next(iter(measurements.values())).fingerprint.facts
    return _json(
        {
            "machine_info": {
                "node": "",
                "processor": facts.get("machine"),
                "machine": facts.get("machine"),
                "release": facts.get("kernel"),
                "system": "Linux",
                "python_version": facts.get("python"),
                "cpu": {"brand_raw": facts.get("cpu_model"), "count": facts.get("cores")},
            },
            "commit_info": {"id": "unknown", "dirty": False},
            "benchmarks": [_pytest_benchmark(name, one) for name, one in measurements.items()],
            "datetime": datetime_utc,
            "version": "5.1.0",
        }
    )


def _pytest_benchmark(name: str, one: Measurement) -> Mapping[str, object]:
    seconds = [value / 1e3 for value in one.round_medians_ms()]
    low, _, high = quantiles(seconds, n=4) if len(seconds) > 1 else seconds * 3
    return {
        "group": one.target,
        "name": name,
        "fullname": f"shoal::{name}",
        "params": None,
        "param": None,
        "extra_info": dict(one.identity),
        "options": {"timer": "perf_counter_ns", "disable_gc": True, "warmup": True},
        "stats": {
            "min": min(seconds),
            "max": max(seconds),
            "mean": mean(seconds),
            "stddev": stdev(seconds) if len(seconds) > 1 else 0.0,
            "rounds": len(seconds),
            "median": one.median_ms / 1e3,
            "q1": low,
            "q3": high,
            "iqr": high - low,
            "iqr_outliers": 0,
            "stddev_outliers": 0,
            "outliers": "0;0",
            "ld15iqr": min(seconds),
            "hd15iqr": max(seconds),
            "ops": 1 / mean(seconds),
            "total": sum(seconds),
            "iterations": 1,
            "data": seconds,
        },
    }


def figures(check: Check) -> str:
    """`1.031 x of the baseline [1.027, 1.036], limit 1.02`."""
    low, high = check.interval
    between = "" if low is None or high is None else f" [{low:.4g}, {high:.4g}]"
    return f"{check.value:.4g} {check.unit}{between}, limit {check.limit:.4g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
