import json
from xml.etree import ElementTree

import pytest
from test_measurement import measurement

from profiles import exporters
from profiles.checks import Check
from profiles.exporters import Outcome

CHECKS = (
    Check("latency", "net", "x86-cpu", "PASS", "not slower", 1.001, 1.02, "x", (0.99, 1.01)),
    Check("budget", "net", "x86-cpu", "FAIL", "over by 5%: <b>|\n", 5.25, 5.0, "ms", (5.2, 5.3)),
    Check("latency", "vgg", "x86-cpu", "INCONCLUSIVE", "spans", 1.02, 1.02, "x", (None, None)),
    Check("latency", "vgg", "board", "UNFIT", "throttled", 1.02, 1.02, "x", (None, None)),
)
MEASURED = {"a on x86-cpu": measurement(), "b on x86-cpu": measurement("b.onnx", 1.1)}
OUTCOME = Outcome("FAIL", CHECKS, MEASURED, 12.5)


def test_junit_counts_and_tells_skipped_from_failed():
    suite = ElementTree.fromstring(exporters.junit(OUTCOME)).find("testsuite")
    assert suite is not None

    assert {name: suite.get(name) for name in ("tests", "failures", "skipped", "errors")} == {
        "tests": "4", "failures": "1", "skipped": "2", "errors": "0",
    }  # fmt: skip
    assert [case.find("skipped") is not None for case in suite.iter("testcase")] == [
        False, False, True, True,
    ]  # fmt: skip
    skipped = suite.findall("testcase")[2].find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "INCONCLUSIVE: spans"


def test_the_summary_keeps_its_table_whole():
    lines = exporters.markdown(OUTCOME).splitlines()

    assert "FAIL" in lines[0]
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + len(CHECKS)
    assert all(row.replace("\\|", "").count("|") == 7 for row in rows)


def test_annotations_are_one_line_each_and_escaped():
    lines = exporters.github_annotations(OUTCOME).splitlines()

    assert [line.split(" ")[0] for line in lines] == [
        "::notice",
        "::error",
        "::warning",
        "::warning",
    ]
    assert "over by 5%25" in lines[1]
    assert lines[1].split("::")[1].startswith("error title=shoal FAIL%3A net budget")


def test_smaller_is_better_entries_have_a_number_and_a_unit():
    entries = json.loads(exporters.github_action_benchmark(OUTCOME.measurements))

    assert [entry["name"] for entry in entries] == ["a on x86-cpu", "b on x86-cpu"]
    assert all(isinstance(entry["value"], float) and entry["unit"] == "ms" for entry in entries)


def test_bencher_gets_nanoseconds_with_their_interval():
    (first, _) = json.loads(exporters.bencher(OUTCOME.measurements)).values()

    latency = first["latency"]
    assert latency["value"] == measurement().median_ms * 1e6
    assert latency["lower_value"] <= latency["value"] <= latency["upper_value"]


def test_pytest_benchmark_gets_seconds_and_all_its_statistics():
    document = json.loads(exporters.pytest_benchmark(OUTCOME.measurements, "2026-01-01T00:00:00"))

    stats = document["benchmarks"][0]["stats"]
    assert stats["median"] == pytest.approx(measurement().median_ms / 1e3)
    assert {"min", "max", "mean", "stddev", "rounds", "iqr", "q1", "q3", "ops", "total"} <= set(
        stats
    )
    assert {"machine_info", "commit_info", "datetime", "version"} <= set(document)
