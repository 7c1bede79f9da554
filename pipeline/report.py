"""One job's result as JSON, as Markdown and as one page that needs nothing else.

The page has no scripts and no outside files: it opens from a mail, follows the reader's light or
dark setting, and prints.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from pydantic import TypeAdapter, ValidationError
from rich.text import Text

from pipeline.reporting import figures, picture
from pipeline.reporting.documents import CompressDocument, ReportDocument, VariantRecord
from pipeline.workspace import write_whole
from runtimes.errors import InputError

T = TypeVar("T")

TEMPLATES = Path(__file__).parent / "templates"
PAST = {
    "keep": "kept",
    "merge": "merged",
    "refit": "refitted",
    "low-rank": "thinned",
    "drop": "dropped",
}


def write_report(document: CompressDocument, folder: Path) -> ReportDocument:
    """`report.json`, `report.md` and `report.html` in the folder, each replaced in one step."""
    templates = environment()
    view = _view(document)
    text = TypeAdapter(CompressDocument).dump_json(document, indent=2).decode() + "\n"
    html = templates.get_template("report.html").render(view).lstrip()
    markdown = templates.get_template("report.md").render(view)
    return ReportDocument(
        json=str(write_whole(folder / "report.json", text)),
        markdown=str(write_whole(folder / "report.md", markdown)),
        html=str(write_whole(folder / "report.html", html)),
    )


def read_document(folder: Path) -> CompressDocument:
    """The document that a finished job left in its folder."""
    return read_as(CompressDocument, folder / "report.json", "shoal.compress/1")


def read_as(kind: type[T], path: Path, schema: str) -> T:
    """What a job wrote when it had finished."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(
            f"{str(path.parent)!r} has no readable {path.name} ({e}): give the folder of a "
            "finished `shoal compress`"
        ) from e
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{str(path)!r} is no {schema} document: {where or 'it'}: {first['msg']}"
        ) from e


def show_report(document: ReportDocument) -> Text:
    return Text("\n".join(filter(None, (document.html, document.markdown, document.json))))


def environment() -> Environment:
    """The templates with the figures' filters; an unknown name in one is an error."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html", "svg"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "milliseconds": figures.milliseconds,
        "signed": figures.signed_milliseconds,
        "interval": figures.interval,
        "percent": figures.percent,
        "points": figures.points,
        "count": figures.count,
        "speed_up": figures.speed_up,
        "scientific": figures.scientific,
        "moment": figures.moment,
        "sentence": figures.sentence,
        "past": PAST.__getitem__,
        "cell": _cell,
    }
    return made


def _view(document: CompressDocument) -> dict[str, Any]:
    networks = figures.networks(document)
    chosen = None if document.chosen is None else document.candidates[document.chosen]
    budgeted = [target for target in document.targets if target.limit_ms is not None]
    return {
        "precision_rows": _precision_rows(document),
        "budgeted": budgeted,
        "headline": budgeted or document.targets,
        "frontier_targets": list(document.frontier[0].measured_ms) if document.frontier else [],
        "trained_as": {c.frontier: c.name for c in document.candidates if c.frontier is not None},
        "document": document,
        "chosen": chosen,
        "networks": networks,
        "candidates": sorted(document.candidates, key=lambda candidate: candidate is not chosen),
        "measured_on": [
            target.target
            for target in document.targets
            if any(target.target in network.measured_ms for _, network in networks)
        ],
        "scatters": picture.accuracy_against_latency(document),
        "scores": picture.scores_of_sites(document),
        "loops": {c.name: picture.rounds_of_loop(c.plan) for c in document.candidates},
        "repeats": {c.name: picture.repeats(c.plan.rounds) for c in document.candidates},
        "refused": [site for site in document.sites if site.refusal],
        "recipe": json.dumps(document.recipe, indent=2),
        "style": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
    }


def _precision_rows(
    document: CompressDocument,
) -> list[tuple[str, Any, str, VariantRecord | None]]:
    """(name, what was measured, precision, the variant or null for fp32), both networks."""
    if not document.precisions:
        return []
    rows: list[tuple[str, Any, str, VariantRecord | None]] = []
    shallow = document.candidates[document.chosen or 0]
    for kind, name, whole in (
        ("dense", "dense", document.dense),
        ("shallow", shallow.name, shallow),
    ):
        rows.append((name, whole, "fp32", None))
        rows += [(name, v, v.precision, v) for v in document.precisions if v.network == kind]
    return rows


def _cell(value: Any) -> str:
    # Names are the user's: none may end a table's cell or open a tag in Markdown.
    text = " ".join(str(value).split())
    return text.replace("|", "\\|").replace("<", "&lt;")
