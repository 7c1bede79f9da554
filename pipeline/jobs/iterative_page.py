"""The page of an iterated job: its curve, the dense network that was trained as long, the clock."""

from __future__ import annotations

import json
from pathlib import Path

from markupsafe import Markup

from pipeline.jobs.iterative_document import IterativeDocument
from pipeline.jobs.procedures import Curve
from pipeline.report import TEMPLATES, environment
from pipeline.reporting.drawing import WIDTH, Mark, Panel, Scale, ticks
from pipeline.reporting.figures import percent
from pipeline.workspace import write_whole


def write_page(document: IterativeDocument, folder: Path) -> Path:
    """`report.html` in the folder, replaced in one step; it needs nothing else."""
    html = (
        environment()
        .get_template("iterative.html")
        .render(
            document=document,
            passed=[point for point in document.curve.points if point.passed],
            curves=[
                panel for kind in ("validation", "test") if (panel := curve_of(document, kind))
            ],
            recipe=json.dumps(document.recipe, indent=2),
            style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        )
    )
    return write_whole(folder / "report.html", html.lstrip())


def curve_of(document: IterativeDocument, kind: str) -> Panel | None:
    """Accuracy on a split against activations removed, round by round; none without a round."""
    curve, total = document.curve, document.dense.activations
    if not curve.points:
        return None
    removed = [total - point.activations for point in curve.points]
    mine, control = _accuracies(curve, kind)
    dense = curve.dense_validation if kind == "validation" else curve.dense_test
    known = [dense, *mine, *(value for value in control if value is not None)]
    margin = max(0.12 * (max(known) - min(known)), 0.001)
    left, right, top, bottom = 58, WIDTH - 14, 14, 246
    x = Scale(0.0, 1.08 * max(removed), left, right)
    y = Scale(min(known) - margin, max(known) + margin, bottom, top)
    marks = [Mark("dense", f"dense: {percent(dense)}", x.at(0), y.at(dense))]
    for point, gone, accuracy, beside in zip(curve.points, removed, mine, control, strict=True):
        if beside is not None:
            title = f"dense, trained for {point.epochs} epochs more: {percent(beside)}"
            marks.append(Mark("dense", title, x.at(gone), y.at(beside)))
        title = f"round {point.round}: {gone} removed, {percent(accuracy)}"
        role = "chosen" if point.passed else "candidate"
        marks.append(Mark(role, title, x.at(gone), y.at(accuracy)))
    return Panel(
        title=f"{kind} accuracy",
        describes=f"{kind} accuracy against activations removed, beside the dense network's",
        height=294,
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        x_label="activations removed",
        x_ticks=tuple(tick for tick in ticks(x) if "." not in tick.label),
        y_label=f"{kind} accuracy, %",
        y_ticks=ticks(y, scale_by=100),
        marks=tuple(marks),
    )


def _accuracies(curve: Curve, kind: str) -> tuple[list[float], list[float | None]]:
    if kind == "validation":
        return [p.validation for p in curve.points], [p.control_validation for p in curve.points]
    return [p.test for p in curve.points], [p.control_test for p in curve.points]
