"""The report says what the document says, on a page that needs nothing else."""

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from pipeline.__main__ import main
from pipeline.documents import (
    ArtifactRecord,
    BudgetRecord,
    CandidateRecord,
    CertificateRecord,
    CompressDocument,
    DenseRecord,
    Difference,
    ExactRecord,
    Latency,
    ParityRecord,
    PlanRecord,
    PlanRound,
    SegmentPlan,
    SiteRecord,
    TargetRound,
)
from pipeline.report import read_document, write_report
from pipeline.schemas import schema_of
from runtimes.errors import InputError

BLOCKS = [f"layer{stage}.{block}" for stage in range(1, 5) for block in range(2)]


def latency(median_ms: float, dense_ms: float | None = None) -> Latency:
    ratio = None if dense_ms is None else median_ms / dense_ms
    return Latency(
        median_ms=median_ms,
        interval_ms=(0.985 * median_ms, 1.018 * median_ms),
        ratio=ratio,
        ratio_interval=None if ratio is None else (0.98 * ratio, 1.01 * ratio),
        confidence=0.95,
        rounds=12,
        samples=24_000,
    )


def segment(name: str, *, refit: bool) -> SegmentPlan:
    change = Difference(predicted_ms=-0.021, measured_ms=-0.0195, interval_ms=(-0.022, -0.018))
    return SegmentPlan(
        segment=name,
        choice="refit" if refit else "keep",
        option=f"{name}/refit3" if refit else None,
        kernel=(3, 3) if refit else None,
        operators_before=2,
        operators_after=1 if refit else 2,
        removed_sites=(f"{name}.relu#0",) if refit else (),
        macs_before=903_168,
        macs_after=451_584 if refit else 903_168,
        difference={"x86-cpu": change} if refit else {},
    )


def candidate(name: str, *, refitted: int, accuracy: float, ms: float) -> CandidateRecord:
    segments = tuple(segment(block, refit=i < refitted) for i, block in enumerate(BLOCKS))
    rounds = tuple(
        PlanRound(
            options=("layer1.0/refit3",),
            predicted_loss=0.1,
            targets={
                "x86-cpu": TargetRound(
                    predicted_ms=0.204,
                    measured_ms=measured,
                    interval_ms=(0.98 * measured, 1.02 * measured),
                    budget_ms=0.2106,
                    meets=measured < 0.206,
                )
            },
        )
        for measured in (0.226, ms)
    )
    return CandidateRecord(
        name=name,
        accuracy=accuracy,
        validation_accuracy=accuracy - 0.001,
        measured_ms={"x86-cpu": latency(ms, 0.351), "x86-openvino": latency(0.9 * ms, 0.33)},
        macs=5_400_000,
        depth=10,
        activations=17 - refitted,
        artifacts=(ArtifactRecord(path="a.onnx", sha256="ab" * 32, precision="fp32"),),
        plan=PlanRecord(
            segments=segments,
            predicted_ms={"x86-cpu": 0.204},
            predicted_loss=0.1,
            status="optimal",
            rounds=rounds,
        ),
        removed_sites=tuple(site for part in segments for site in part.removed_sites),
        merged_operators=2 * refitted,
        accuracy_before_finetuning=0.849,
        certificate=CertificateRecord(
            max_abs=2.1e-5,
            rms_relative=3.2e-7,
            border_rms_relative=None,
            tolerance=1e-4,
            inputs=8,
            passed=True,
        ),
        parity=(
            ParityRecord(
                target="x86-openvino",
                images=512,
                max_relative=1.3e-6,
                top1_agreement=1.0,
                accuracy=accuracy,
                tolerance=1e-4,
                passed=True,
            ),
        ),
    )


def document() -> CompressDocument:
    sites = [SiteRecord(
        id="relu#0", kind="relu", segment=None, scores={"easier": 0.81, "residual": None},
        refusal="Conv conv1 feeds two operators",
    )]  # fmt: skip
    for i, block in enumerate(BLOCKS):
        scores = {"easier": 0.9 - 0.05 * i, "residual": 0.31 / (i + 1)}
        sites.append(
            SiteRecord(id=f"{block}.relu#0", kind="relu", segment=block, scores={**scores})
        )
    return CompressDocument(
        name="fashion-mnist",
        model="resnet18 (width 16)",
        dataset="fashion-mnist",
        test_images=10_000,
        seed=0,
        date="2026-05-01T12:00:00+00:00",
        seconds={"dense": 203.1, "plan": 41.0},
        targets=(
            BudgetRecord(
                target="x86-cpu", description="one thread", budget="0.6x", limit_ms=0.2106
            ),
            BudgetRecord(
                target="x86-openvino", description="one thread", budget=None, limit_ms=None
            ),
        ),
        dense=DenseRecord(
            accuracy=0.925,
            validation_accuracy=0.926,
            measured_ms={"x86-cpu": latency(0.351), "x86-openvino": latency(0.33)},
            macs=9_700_000,
            depth=21,
            activations=17,
            artifacts=(),
        ),
        exact_only=ExactRecord(
            options=("layer1.0/merge-5x5",), measured_ms={"x86-cpu": latency(0.329, 0.351)}
        ),
        candidates=(
            candidate("all-but-two", refitted=6, accuracy=0.9251, ms=0.229),
            candidate("all-blocks", refitted=8, accuracy=0.9227, ms=0.193),
        ),
        chosen=1,
        verdict="PASS",
        reasons=(),
        sites=tuple(sites),
        fingerprint={"cpu_model": "some CPU", "governor": None},
        missing={"governor": "no cpufreq here"},
        versions={"shoal": "0.1.0", "torch": "2.15.0"},
        recipe={"name": "fashion-mnist"},
        report="report.html",
    )


class Page(HTMLParser):
    """What a browser would fetch or run, the words of the page, and whether its tags match."""

    VOID = frozenset({"meta", "line", "rect", "circle", "path", "br"})

    def __init__(self, text: str):
        super().__init__()
        self.fetched: list[str] = []
        self.words = ""
        self.open: list[str] = []
        self.mismatched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "link", "img", "iframe"}:
            self.fetched.append(tag)
        self.fetched += [name for name, _ in attrs if name in {"src", "href"} or name[:2] == "on"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.mismatched.append(tag)

    def handle_data(self, data: str) -> None:
        self.words += " " + " ".join(data.split())


def page(document: CompressDocument, folder: Path) -> Page:
    write_report(document, folder)
    return Page((folder / "report.html").read_text())


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
