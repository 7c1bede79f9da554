"""The results of `plans.py` as files: JSON to go on from, and a Markdown table to read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import circumstances

ABOUT = (
    "Budgets met by measuring: predicted and measured latency relative to the dense network, and "
    "the plan of the same solver with MACs in place of time, measured the same way."
)
CLOSE = 0.05  # what a prediction may be off by


class Results:
    """Rows and failures, on disk after each; begun from what is there."""

    def __init__(self, out: Path, command: str):
        self.json, self.table, self.command = Path(f"{out}.json"), Path(f"{out}.md"), command
        there = json.loads(self.json.read_text()) if self.json.exists() else {}
        self.started = there.get("started") or circumstances.now()
        self.rows: list[Mapping[str, Any]] = there.get("rows", [])
        self.errors: list[Mapping[str, Any]] = there.get("errors", [])

    def keys(self) -> set[tuple[str, str, float]]:
        return {(row["network"], row["target"], row["budget"]) for row in self.rows}

    def keep(self, row: Mapping[str, Any]) -> None:
        self.rows.append(row)
        self._forget(row["network"], row["target"])
        self._write()

    def fail(self, network: str, target: str, error: str) -> None:
        self._forget(network, target)
        self.errors.append({"network": network, "target": target, "error": error})
        self._write()

    def markdown(self) -> str:
        failed = [f"- {e['network']} on {e['target']} failed: {e['error']}" for e in self.errors]
        return table_of(self.rows) + "".join(f"\n{one}" for one in failed)

    def _forget(self, network: str, target: str) -> None:
        """An earlier failure of what was measured now."""
        place = (network, target)
        self.errors = [e for e in self.errors if (e["network"], e["target"]) != place]

    def _write(self) -> None:
        """Whole files or the earlier ones."""
        draft = Path(f"{self.json}.draft")
        circumstances.write(
            draft, ABOUT, self.command, self.started, rows=self.rows, errors=self.errors
        )
        draft.replace(self.json)
        draft = Path(f"{self.table}.draft")
        draft.write_text(self.markdown())
        draft.replace(self.table)


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


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    met = [row for row in rows if row["feasible"]]
    errors = [abs(row["plan"]["predicted"] / row["plan"]["measured"] - 1) for row in rows]
    close = sum(error <= CLOSE for error in errors)
    flops = sum(row["flops"]["meets"] for row in rows)
    return (
        f"{len(met)} of {len(rows)} budgets are met, the others by no plan that was tried. The "
        f"choice by FLOPs meets {flops}. {close} predictions are within {CLOSE:.0%} of what was "
        "measured."
    )


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
        "of the measured ratio. `rounds` counts networks built and measured, second looks",
        "at a plan that measured far from its prediction included. `by FLOPs` is the plan of the",
        "same solver with MACs in place of time, measured the same way.",
        "",
        summary(rows),
        "",
        f"| {' | '.join(HEADER)} |",
        f"|{'---|' * len(HEADER)}",
    ]
    lines += [f"| {' | '.join(cells(row))} |" for row in rows]
    return "\n".join(lines) + "\n"
