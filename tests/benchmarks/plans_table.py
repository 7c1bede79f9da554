"""The results of `plans.py` as files: JSON to go on from, and a Markdown table to read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def read(results: Path) -> list[dict[str, Any]]:
    path = results.with_suffix(".json")
    return json.loads(path.read_text()) if path.exists() else []


def write(rows: Sequence[Mapping[str, Any]], results: Path) -> None:
    """Whole files or the earlier ones."""
    results.parent.mkdir(parents=True, exist_ok=True)
    for suffix, text in ((".json", json.dumps(rows, indent=1) + "\n"), (".md", table_of(rows))):
        draft = results.with_suffix(f"{suffix}.draft")
        draft.write_text(text)
        draft.replace(results.with_suffix(suffix))


HEADER = (
    "network", "target", "dense ms", "budget", "predicted", "measured", "interval", "error",
    "rounds", "met", "removed", "MACs", "by FLOPs: predicted", "measured", "met", "removed", "s",
)  # fmt: skip


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    plan, flops = row["plan"], row["flops"]
    low, high = plan["interval"]
    return (
        row["network"],
        row["target"],
        f"{row['dense_ms']:.4g}",
        f"{row['budget']:g}x",
        f"{plan['predicted']:.3f}x",
        f"{plan['measured']:.3f}x",
        f"{low:.3f} to {high:.3f}",
        f"{plan['predicted'] / plan['measured'] - 1:+.1%}",
        f"{len(row['rounds'])}",
        "yes" if row["feasible"] else "no",
        f"{plan['removed_sites']} of {row['sites']}",
        f"{plan['macs']:.2f}x",
        f"{flops['predicted']:.3f}x",
        f"{flops['measured']:.3f}x",
        "yes" if flops["meets"] else "no",
        f"{flops['removed_sites']}",
        f"{row['seconds']:.0f}",
    )


def line(row: Mapping[str, Any]) -> str:
    return "  " + ", ".join(f"{name} {cell}" for name, cell in zip(HEADER, cells(row), strict=True))


def table_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown; devices, runtimes and dates once, above."""
    said = sorted(
        {(row["device"], row["target"], row["runtime"], row["date"][:10]) for row in rows}
    )
    lines = ["# Budgets met by measuring", ""]
    lines += [
        f"- {device}: {target} is {runtime}, {date}" for device, target, runtime, date in said
    ]
    lines += [
        "",
        "All times are relative to the dense network measured beside the plan; `interval` is that",
        "of the measured ratio. `rounds` counts plans that were built and measured. `by FLOPs` is",
        "the plan of the same solver with MACs in place of time, measured the same way.",
        "",
        f"| {' | '.join(HEADER)} |",
        f"|{'---|' * len(HEADER)}",
    ]
    lines += [f"| {' | '.join(cells(row))} |" for row in rows]
    return "\n".join(lines) + "\n"
