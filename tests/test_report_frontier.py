"""The report of a job that trained several plans."""

from __future__ import annotations

import pytest
from report_cases import document, frontier_document, page

from pipeline.report import read_document, write_report
from pipeline.reporting.picture import accuracy_against_latency, not_beaten


@pytest.mark.parametrize(
    "words",
    [
        "From the dense network to the fastest plan",
        "until validation accuracy fell below 92.00 %",
        "no: another plan beats it",
        "no: below the floor before it",
        "What was changed: plan 3, not chosen",
        "validation accuracy 0.9117 is under the floor 0.92",
        "Trained from the weights of plan 1",
        "plan 4 not trained: plan 3",
        "The chosen network (plan 1) takes 0.298 ms on x86-cpu, 0.85 times the dense network and",
    ],
)
def test_page_says(tmp_path, words):
    assert words in page(frontier_document(), tmp_path).words


@pytest.mark.parametrize(
    "words",
    [
        "| 0 | 0 | 0 | 0.351 | 0.351 (0.346 to 0.357) | 1.00 | 9.7 M | dense |",
        "| 2 | 4 | 0.04 | 0.302 | 0.302 (0.297 to 0.307) | 0.86 | 7.89 M | beaten |",
        "| plan 3 | 91.27 % |",
    ],
)
def test_markdown_says(tmp_path, words):
    write_report(frontier_document(), tmp_path)

    assert words in (tmp_path / "report.md").read_text()


def test_page_is_whole_and_its_document_comes_back(tmp_path):
    text = page(frontier_document(), tmp_path)

    assert (text.mismatched, text.open, text.fetched) == ([], [], [])
    assert read_document(tmp_path) == frontier_document()
    assert "within the budget" not in text.words


def test_every_table_of_the_markdown_has_equal_rows(tmp_path):
    write_report(frontier_document(), tmp_path)
    table: list[str] = []

    for line in [*(tmp_path / "report.md").read_text().splitlines(), ""]:
        if line.startswith("|"):
            table.append(line)
        elif table:
            assert len({row.count("|") for row in table}) == 1, table
            table = []


def test_job_of_one_plan_has_no_table_of_a_frontier(tmp_path):
    assert "to the fastest plan" not in page(document(), tmp_path).words


def test_line_of_the_picture_joins_what_no_other_network_beats():
    points = [(3.0, 0.95), (2.0, 0.93), (2.5, 0.92), (1.0, 0.80), (1.0, 0.70)]

    assert not_beaten(points) == [(1.0, 0.80), (2.0, 0.93), (3.0, 0.95)]
    panel = accuracy_against_latency(frontier_document())[0]
    assert [x for x, _ in panel.front] == sorted(x for x, _ in panel.front)
    assert {(mark.x, mark.y) for mark in panel.marks} >= set(panel.front)
