"""Committed results say on what, when and how they were measured."""

import json
from pathlib import Path

import pytest

RESULTS = sorted((Path(__file__).parent / "benchmarks" / "results").glob("*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_a_result_names_its_device_versions_and_moment(path):
    result = json.loads(path.read_text())

    assert result["about"]
    assert result["command"].startswith("python tests/benchmarks/")
    assert result["device"]["cpu_model"]
    assert result["device"]["kernel"]
    assert {"numpy", "onnxruntime"} <= set(result["versions"])
    for moment in (result["started"], result["ended"]):
        assert moment["date"].startswith("20")
        assert len(moment["load"]) == 3
    assert result["rows"]


def test_there_are_results():
    assert RESULTS
