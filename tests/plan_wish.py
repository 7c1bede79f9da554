"""What the tests of `shoal plan` ask for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from known_times import CPU, OPENVINO

from pipeline.reporting.progress import Reporter
from pipeline.verbs.planned import Wish

QUIET = Reporter(quiet=True)


def wish(model: Path | None, *budgets: str, **others) -> Wish:
    targets = (CPU, OPENVINO)[: len(budgets)]
    return replace(Wish(model, targets, budgets, rounds=2, max_rounds=4, max_kernel=7), **others)
