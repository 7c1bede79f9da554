"""What the user caps, pins and wants removed, as flags and recipe have it -> rules of the solver.

A cap is a number (`300M`, `1.5G`, `4MiB`) or relative to the dense network (`0.6x`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import onnx_ir as ir

from pipeline.mapping import Map, Option
from pipeline.plans.caps import Cap, Quantity, Rules
from pipeline.plans.footprint import quantities
from pipeline.plans.infeasible import blame
from runtimes.errors import InputError

UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


@dataclass(frozen=True, slots=True)
class Demands:
    """`pin` and `remove` hold ids of sites or of whole segments."""

    max_macs: str | None = None
    max_bytes: str | None = None
    max_peak_bytes: str | None = None
    max_operators: int | None = None
    max_removed: int | None = None
    pin: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()

    def any(self) -> bool:
        return self != NO_DEMANDS

    def cap(self, quantity: Quantity) -> str | int | None:
        """What was asked of a quantity, None for nothing."""
        return {
            "macs": self.max_macs,
            "bytes": self.max_bytes,
            "peak_bytes": self.max_peak_bytes,
            "operators": self.max_operators,
            "removed": self.max_removed,
        }[quantity.name]


NO_DEMANDS = Demands()


def unpinned(map_: Map, options: Sequence[Option], pin: Sequence[str]) -> list[Option]:
    """The options that change nothing of what is pinned."""
    segments, sites = _named(map_, pin, "pin")
    operators = {o.node for s in map_.segments if s.id in segments for o in s.operators}
    return [o for o in options if operators.isdisjoint(o.replaces) and sites.isdisjoint(o.sites)]


def rules_of(
    demands: Demands, model: ir.Model, map_: Map, options: Sequence[Option], *, check: bool = True
) -> Rules:
    """The rules of every plan; refused where they alone leave none, before anything is measured."""
    segments, sites = _named(map_, demands.remove, "remove")
    wanted = [site for s in map_.segments if s.id in segments for site in s.sites] + sorted(sites)
    removable = {site for option in options for site in option.sites}
    stuck = [site for site in wanted if site not in removable]
    if stuck:
        raise InputError(f"remove = {stuck[0]!r}: {_why_stuck(map_, stuck[0])}")
    asked = [(q, text) for q in quantities(model, map_) if (text := demands.cap(q)) is not None]
    caps = tuple(Cap(q, _amount(q, str(text)), str(text)) for q, text in asked)
    rules = Rules(caps, tuple(dict.fromkeys(wanted)))
    reason = blame(options, [], rules) if check else None
    if reason:
        raise InputError(f"no plan is possible on any device: {reason}")
    return rules


def _named(map_: Map, names: Sequence[str], key: str) -> tuple[set[str], set[str]]:
    """Which of the names are segments, and which sites."""
    segments = {segment.id for segment in map_.segments}
    sites = {site.id for site in map_.sites}
    for name in names:
        if name not in segments | sites:
            known = sorted(segments | sites)
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(
                f"{key} = {name!r}: no such site or segment{hint} "
                f"(there are: {', '.join(known[:6])}{', ...' if len(known) > 6 else ''}; "
                "`shoal map` lists all)"
            )
    return segments.intersection(names), sites.intersection(names)


def _why_stuck(map_: Map, site: str) -> str:
    refused = {refusal.site: refusal.reason for refusal in map_.refusals}
    if site in refused:
        return f"nothing can remove it: {refused[site]}"
    return "no option that is left removes it: it is pinned too, or beyond max_kernel or kernels"


def _amount(quantity: Quantity, text: str) -> float:
    form = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(x|[kMG]i?|)B?\s*", text)
    if form is None:
        raise InputError(
            f"max_{quantity.name} = {text!r}: not an amount; write 300M, 1.5G, 4MiB or 0.6x (of "
            f"the dense network, which has {quantity.of(()):.0f} {quantity.unit})"
        )
    unit = quantity.of(()) if form[2] == "x" else UNITS[form[2]]
    return float(form[1]) * unit
