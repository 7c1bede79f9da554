"""A latency budget: `5ms`, `350us`, or relative to the dense network on that target, `0.6x`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import inf

from runtimes.errors import InputError

MS_PER_UNIT = {"ms": 1.0, "us": 1e-3}


@dataclass(frozen=True, slots=True)
class Budget:
    """As the user wrote it, and the milliseconds or the ratio that this is (the other is null)."""

    text: str
    ms: float | None
    ratio: float | None

    def limit_ms(self, dense_ms: float) -> float:
        """The limit on a target where the dense network takes `dense_ms`."""
        return dense_ms * self.ratio if self.ratio is not None else self.ms or 0.0


UNLIMITED = Budget("none", ms=inf, ratio=None)


def parse_budget(text: str) -> Budget:
    """The budget that `text` is."""
    form = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(ms|us|x)\s*", text)
    value = float(form[1]) if form else 0.0
    if form is None or value <= 0:
        raise InputError(
            f"budget {text!r} is not a time: write 5ms, 350us or 0.6x (of the dense network)"
        )
    if form[2] == "x":
        return Budget(text.strip(), ms=None, ratio=value)
    return Budget(text.strip(), ms=value * MS_PER_UNIT[form[2]], ratio=None)
