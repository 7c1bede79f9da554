"""The ways to replace a part of a segment.

merge     the kernel that the span really has, its padding moved to the front
refit     a smaller kernel about the same centre
low-rank  two thin matrices in place of matrices
drop      nothing: the input goes on, where it has the shape of the output

A shortcut around the whole segment goes into the kernel of a span that covers all of it, and is
what remains where all of it is dropped.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.graphs.geometry import compose_all, keeps_shape, shortcut_tap, with_shortcut
from pipeline.graphs.segments import Option, Segment, Shortcut
from pipeline.graphs.spans import low_ranks, refit_geometries, span_geometry


def options_of(segment: Segment, max_kernel: int) -> tuple[Option, ...]:
    """Every span of two operators or more, and the whole of a segment with a shortcut."""
    options = []
    count = len(segment.operators)
    for first in range(count):
        for last in range(first, count):
            whole = (first, last) == (0, count - 1)
            if last > first or (whole and segment.shortcut):
                options += _span_options(segment, first, last, max_kernel)
    return tuple(options)


def _span_options(segment: Segment, first: int, last: int, max_kernel: int) -> list[Option]:
    operators = segment.operators[first : last + 1]
    merged = span_geometry(operators, segment.glue[first:last])
    if isinstance(merged, str):
        return []
    sites = tuple(site for site in segment.gaps[first:last] if site)
    whole = len(operators) == len(segment.operators)
    shortcut = segment.shortcut if whole else None
    crossing = any({"pool", "flatten"} & set(glue) for glue in segment.glue[first:last])
    macs_before = sum(operator.macs for operator in operators)
    blank = Option(
        id="",
        segment=segment.id,
        kind="merge",
        first=first,
        last=last,
        absorbs_shortcut=False,
        sites=sites,
        geometry=merged,
        pooled=any("pool" in glue for glue in segment.glue[first:last]),
        border="none",
        macs=merged.macs(operators[-1].positions),
        macs_before=macs_before,
        replaces=tuple(operator.node for operator in operators),
    )
    moved = any(operator.geometry.padded for operator in operators[1:])
    options = []
    if max(merged.kernel, default=1) <= max_kernel:
        options.append(replace(blank, border="moved" if moved else "none"))
    if sites:
        for geometry in refit_geometries(merged, max_kernel):
            macs = geometry.macs(operators[-1].positions)
            kept = geometry.parameters / merged.parameters
            border = "moved" if geometry.padded and moved else "none"
            made = replace(blank, kind="refit", geometry=geometry, macs=macs, kept=kept)
            options.append(replace(made, border=border))
    options = [_absorbing(option, shortcut) for option in options]
    if len(operators) == 1:
        options = [option for option in options if option.absorbs_shortcut]
    if sites and not crossing:
        options += [_low_rank(blank, rank, operators[-1].positions) for rank in low_ranks(merged)]
    if shortcut or (sites and not crossing and keeps_shape(merged)):
        options.append(replace(blank, kind="drop", macs=0, kept=0.0))
    return [replace(option, id=_option_id(option)) for option in options]


def _absorbing(option: Option, shortcut: Shortcut | None) -> Option:
    """The option with the shortcut in its kernel, where a tap of it lies under the shortcut's."""
    if shortcut is None:
        return option
    projection = shortcut.operator
    tap = shortcut_tap(option.geometry, projection.geometry if projection else None)
    if isinstance(tap, str):
        return option
    if projection is None:
        return replace(option, absorbs_shortcut=True)
    return replace(
        option,
        absorbs_shortcut=True,
        macs_before=option.macs_before + projection.macs,
        replaces=(*option.replaces, projection.node),
    )


def refits_of_run(run: Segment, max_kernel: int) -> tuple[Option, ...]:
    """Kernels no larger than those inside, no smaller than the stride, and of fewer MACs than all.

    A bottleneck's ends are wide: one 3x3 of two blocks of ResNet-50 takes 4.2 times their MACs.
    """
    merged = compose_all([operator.geometry for operator in run.operators])
    projections = [s.operator for s in run.added if s.operator]
    for projection in projections:
        merged = with_shortcut(merged, projection.geometry)
    largest = max(k for operator in run.operators for k in operator.geometry.kernel)
    moved = any(operator.geometry.padded for operator in run.operators[1:])
    options = [
        Option(
            id="",
            segment=run.id,
            kind="refit",
            first=0,
            last=len(run.operators) - 1,
            absorbs_shortcut=bool(run.added),
            sites=run.sites,
            geometry=geometry,
            pooled=False,
            border="moved" if geometry.padded and moved else "none",
            macs=geometry.macs(run.operators[-1].positions),
            macs_before=run.macs,
            replaces=tuple(operator.node for operator in (*run.operators, *projections)),
            kept=geometry.parameters / merged.parameters,
        )
        for geometry in refit_geometries(merged, min(largest, max_kernel))
        if all(k >= s for k, s in zip(geometry.kernel, geometry.strides, strict=True))
    ]
    cheaper = [option for option in options if option.sites and option.macs < option.macs_before]
    return tuple(replace(option, id=_option_id(option)) for option in cheaper)


def _low_rank(blank: Option, rank: int, positions: int) -> Option:
    """in x r and r x out; of in x out numbers, r (in + out - r) are free."""
    ins, outs = blank.geometry.in_channels, blank.geometry.out_channels
    return replace(
        blank,
        kind="low-rank",
        rank=rank,
        macs=positions * rank * (ins + outs),
        kept=rank * (ins + outs - rank) / (ins * outs),
    )


def _option_id(option: Option) -> str:
    size = {"drop": "", "low-rank": f"-{option.rank}"}.get(option.kind, f"-{option.geometry}")
    suffix = "+shortcut" if option.absorbs_shortcut else ""
    return f"{option.segment}/{option.kind}{size}@{option.first}-{option.last}{suffix}"
