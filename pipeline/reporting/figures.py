"""Numbers as a reader sees them: one way in the terminal, in Markdown and on the page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from math import floor, log10, sqrt

from pipeline.reporting.documents import CandidateRecord, CompressDocument, DenseRecord, Latency

NORMAL_95 = 1.959963984540054


def milliseconds(value: float) -> str:
    """Three decimals below 10 ms, more where the first three digits need them, up to ten ns."""
    return f"{value:.{_decimals(value)}f}"


def signed_milliseconds(value: float) -> str:
    return ("+" if value > 0 else "\u2212" if value < 0 else "") + milliseconds(abs(value))


def interval(bounds: Sequence[float]) -> str:
    """Both bounds with the decimals of the finer one."""
    decimals = max(_decimals(bound) for bound in bounds)
    return " to ".join(f"{bound:.{decimals}f}" for bound in bounds)


def _decimals(value: float) -> int:
    if abs(value) >= 10:
        return 2 if abs(value) < 100 else 1
    return 3 if value == 0 else min(5, max(3, 2 - floor(log10(abs(value)))))


def percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def points(difference: float) -> str:
    """A difference of two fractions, in percentage points with its sign."""
    return f"{100 * difference:+.2f}".replace("-", "\u2212")


def count(value: float) -> str:
    """1,234 as it is, larger numbers with a prefix."""
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if prefix == 'k' else size):.3g} {prefix}"
    return f"{value:,.0f}"


def speed_up(latency: Latency) -> str:
    """How many times faster than the dense network, with the interval."""
    if latency.ratio is None:
        return "1"
    text = f"{1 / latency.ratio:.2f}"
    if latency.ratio_interval is not None:
        low, high = latency.ratio_interval
        text += f" ({1 / high:.2f} to {1 / low:.2f})"
    return text


def scientific(value: float | None) -> str:
    return "none" if value is None else f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e+")


def moment(iso: str) -> str:
    """An ISO 8601 date as a reader writes it."""
    return f"{datetime.fromisoformat(iso):%d %B %Y, %H:%M %Z}".strip().lstrip("0")


def accuracy_interval(fraction: float, images: int) -> tuple[float, float]:
    """Wilson's 95 % interval of an accuracy on `images` test images.

    (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    """
    z, n = NORMAL_95, max(images, 1)
    centre = fraction + z * z / (2 * n)
    spread = z * sqrt(fraction * (1 - fraction) / n + z * z / (4 * n * n))
    return (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)


def networks(document: CompressDocument) -> list[tuple[str, DenseRecord | CandidateRecord]]:
    """The dense network and every candidate, by the names that all tables give them."""
    return [("dense", document.dense), *((c.name, c) for c in document.candidates)]


def sentence(document: CompressDocument) -> str:
    """The result in one sentence."""
    if document.chosen is None:
        why = "; ".join(document.reasons) or "no candidate met every budget"
        return f"No network was chosen: {why}."
    chosen = document.candidates[document.chosen]
    asked = [target for target in document.targets if target.limit_ms is not None]
    parts = []
    for target in asked or document.targets:
        latency = chosen.measured_ms.get(target.target)
        if latency is None:
            continue
        ratio = "" if latency.ratio is None else f", {latency.ratio:.2f} times the dense network"
        limit = target.limit_ms
        budget = "" if limit is None else f" (budget {target.budget}: {milliseconds(limit)} ms)"
        parts.append(f"{milliseconds(latency.median_ms)} ms on {target.target}{ratio}{budget}")
    lost = points(chosen.accuracy - document.dense.accuracy)
    return (
        f"The chosen network ({chosen.name}) takes {' and '.join(parts)}, "
        f"with {percent(chosen.accuracy)} test accuracy "
        f"({lost} points) and {chosen.activations} of {document.dense.activations} activations."
    )
