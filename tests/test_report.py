"""The report says what the document says, on a page that needs nothing else."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from report_cases import Page, document, narrow, page

from pipeline.__main__ import main
from pipeline.report import read_document, write_report
from pipeline.reporting.documents import CompressDocument
from pipeline.verbs.schemas import schema_of
from runtimes.errors import InputError


def test_document_comes_back_from_the_disk_as_it_was(tmp_path):
    write_report(document(), tmp_path)

    assert read_document(tmp_path) == document()


def test_page_fetches_nothing_and_runs_nothing(tmp_path):
    text = page(document(), tmp_path)

    assert text.fetched == []
    assert "url(" not in (tmp_path / "report.html").read_text()


def test_guard_of_the_page_can_fail():
    assert Page('<script src="x.js"></script><p onclick="f()"><a></p>').fetched == [
        "script",
        "src",
        "onclick",
    ]
    assert Page("<p><a></p>").mismatched == ["p"]


def test_tags_of_the_page_match(tmp_path):
    text = page(document(), tmp_path)

    assert (text.mismatched, text.open) == ([], [])


def test_page_is_small_enough_to_mail(tmp_path):
    write_report(document(), tmp_path)

    assert (tmp_path / "report.html").stat().st_size < 200_000


@pytest.mark.parametrize(
    "words",
    [
        "PASS",
        "1 May 2026, 12:00 UTC",
        "The chosen network (all-blocks) takes 0.193 ms on x86-cpu",
        "0.55 times the dense network (budget 0.6x: 0.211 ms)",
        "92.27 %",
        "\u22120.23 points",
        "9 of 17 activations",
        "1.82",
        "(1.80 to 1.86)",
        "0.190 to 0.196",
        "refitted",
        "3 x 3",
        "layer4.1.relu#0",
        "2.1e-5",
        "not read: no cpufreq here",
        "some CPU",
        "torch 2.15.0",
        "Conv conv1 feeds two operators",
        "dense 203.1 s",
        "ab" * 32,
    ],
)
def test_page_says(tmp_path, words):
    assert words in page(document(), tmp_path).words


@pytest.mark.parametrize(
    "words",
    [
        "# fashion-mnist: PASS",
        "| all-blocks (chosen) | 92.27 % | 0.193 (0.190 to 0.196) | 1.82 (1.80 to 1.86) |",
        "| layer1.0 | refitted | 3 x 3 | 2 to 1 | 903 k to 452 k | layer1.0.relu#0 |",
        "| \u22120.0210 | \u22120.0195 (\u22120.0220 to \u22120.0180) |",
        "| 2 | x86-cpu | 0.204 | 0.193 (0.189 to 0.197) | 0.211 | yes |",
        "Certificate passed: max error 2.1e-5",
    ],
)
def test_markdown_says(tmp_path, words):
    write_report(document(), tmp_path)

    assert words in (tmp_path / "report.md").read_text()


def test_every_table_of_the_markdown_has_equal_rows(tmp_path):
    write_report(document(), tmp_path)
    lines = (tmp_path / "report.md").read_text().splitlines()

    tables = re.findall(r"(?:^\|.*\n)+", "\n".join(lines) + "\n", flags=re.MULTILINE)
    assert len(tables) == 6
    for table in tables:
        assert len({row.count("|") for row in table.splitlines()}) == 1, table
        assert set(table.splitlines()[1]) <= set("|-:")


def test_names_of_the_users_own_cannot_break_the_pages(tmp_path):
    hostile = replace(document(), name="<script>a|b</script>")

    text = page(hostile, tmp_path)

    assert text.fetched == []
    assert "<script>a|b</script>" in text.words
    assert "# &lt;script>a\\|b&lt;/script>: PASS" in (tmp_path / "report.md").read_text()


def test_job_without_a_candidate_has_a_report_too(tmp_path):
    failed = replace(
        document(), candidates=(), chosen=None, verdict="FAIL", reasons=("the fastest is 0.19 ms",)
    )

    text = page(failed, tmp_path)

    assert "No network was chosen: the fastest is 0.19 ms." in text.words
    assert (text.mismatched, text.open) == ([], [])


def test_candidate_that_was_not_measured_on_a_target_says_so(tmp_path):
    whole = document()
    dense = replace(whole.dense, measured_ms={"x86-cpu": whole.dense.measured_ms["x86-cpu"]})

    assert "not measured" in page(replace(whole, dense=dense), tmp_path).words


def test_report_is_the_same_when_it_is_made_again(tmp_path):
    first = write_report(document(), tmp_path / ".")
    before = (tmp_path / "report.html").read_bytes()
    write_report(read_document(tmp_path), tmp_path)

    assert first.html == str(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "has no readable report.json"),
        ("{", "is no shoal.compress/1 document"),
        ('{"schema": "shoal.bench/1"}', "schema: Input should be 'shoal.compress/1'"),
    ],
)
def test_folder_without_a_document_is_refused(tmp_path, content, says):
    if content is not None:
        (tmp_path / "report.json").write_text(content)

    with pytest.raises(InputError, match=says):
        read_document(tmp_path)


def test_document_is_json_with_its_schema_first():
    text = TypeAdapter(CompressDocument).dump_json(document()).decode()

    assert text.startswith('{"schema":"shoal.compress/1",')


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["shoal", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_verb_makes_the_pages_again_and_prints_where_they_are(tmp_path, monkeypatch, capsys):
    write_report(document(), tmp_path)
    (tmp_path / "report.html").unlink()

    code = run(monkeypatch, "report", str(tmp_path), "--json")

    shown = json.loads(capsys.readouterr().out)
    assert (code, shown["schema"]) == (0, "shoal.report/1")
    assert Path(shown["html"]) == tmp_path / "report.html"
    assert Path(shown["html"]).is_file()


def test_verb_refuses_a_folder_without_a_job(tmp_path, monkeypatch, capsys):
    code = run(monkeypatch, "report", str(tmp_path))

    shown = capsys.readouterr()
    assert (code, shown.out, len(shown.err.splitlines())) == (2, "", 1)
    assert list(tmp_path.iterdir()) == []


def test_stored_document_is_what_its_schema_says(tmp_path):
    write_report(document(), tmp_path)

    schema, stored = schema_of("compress"), json.loads((tmp_path / "report.json").read_text())

    assert stored.keys() == schema["properties"].keys()
    assert stored["candidates"][0].keys() == schema["$defs"]["CandidateRecord"]["properties"].keys()


@pytest.fixture
def narrowed() -> CompressDocument:
    return replace(document(), precisions=(narrow("dense", 0.213), narrow("shallow", None)))


@pytest.mark.parametrize(
    "words",
    [
        "In fewer bits",
        "int8 uint8 activations \u22120.13 92.14 % of 6,000 99.10 % 0.213 0.210 to 0.217 0.61",
        "not surely within the budget",
        "2 Softmax",
        "top-1 agreement 0.41 | too low",
    ],
)
def test_page_says_what_fewer_bits_bring(narrowed, tmp_path, words):
    assert words in " ".join(page(narrowed, tmp_path).words.split())


@pytest.mark.parametrize(
    "words",
    [
        "| dense | fp32 |  |  | 0.351 (0.346 to 0.357) |  | 0.330 (0.325 to 0.336) |  |  |",
        "| dense | int8 (uint8 activations) | \u22120.13 | 99.10 % | 0.213 (0.210 to 0.217) |",
        "| not measured | | 2 Softmax |",
        "| all-blocks | fp32 |  |  | 0.193 (0.190 to 0.196) | 0.55 |",
        "| not measured | | not measured | | top-1 agreement 0.41 \\| too low |",
    ],
)
def test_markdown_says_what_fewer_bits_bring(narrowed, tmp_path, words):
    write_report(narrowed, tmp_path)

    assert words in (tmp_path / "report.md").read_text()


def test_a_job_in_fp32_alone_has_no_table_of_precisions(tmp_path):
    assert "In fewer bits" not in page(document(), tmp_path).words


def test_a_round_that_measured_the_same_plan_again_says_so(tmp_path):
    once = document()
    first, second = once.candidates[0].plan.rounds
    rounds = (replace(first, options=second.options), second)
    plan = replace(once.candidates[0].plan, rounds=rounds)
    twice = replace(once, candidates=(replace(once.candidates[0], plan=plan),), chosen=0)

    for found, says in ((twice, True), (once, False)):
        write_report(found, tmp_path)
        html, markdown = ((tmp_path / f"report.{end}").read_text() for end in ("html", "md"))
        assert ("round 2, again" in html) is says
        assert ("has to meet again" in html) is says
        assert ("| 2 (1 again) |" in markdown) is says
