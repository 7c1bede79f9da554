"""`shoal report`: the page again of whatever job has finished in a folder."""

from __future__ import annotations

from pathlib import Path

from pipeline.jobs.iterative_document import IterativeDocument
from pipeline.jobs.iterative_page import write_page
from pipeline.report import read_as, read_document, write_report
from pipeline.reporting.documents import ReportDocument


def remake(folder: Path) -> ReportDocument:
    """An iterated job leaves iterative.json, every other one report.json."""
    iterated = folder / "iterative.json"
    if (folder / "report.json").is_file() or not iterated.is_file():
        return write_report(read_document(folder), folder)
    page = write_page(read_as(IterativeDocument, iterated, "shoal.iterative/1"), folder)
    return ReportDocument(json=str(iterated), markdown=None, html=str(page))
