"""Whether items in a row can be one operator, what it would look like, and what it would cost.

A padded operator behind others is exact in two ways only: behind operators that read single pixels
(their bias travels in a channel of ones, or becomes a constant map), or after its padding was moved
to the front, which changes the function near the border and has to be asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.collapse.structure import Block, Item
from pipeline.collapse.units import Unit
from pipeline.graphs.constants import size_of
from pipeline.graphs.geometry import Geometry, compose, shortcut_tap, with_shortcut


@dataclass(frozen=True, slots=True)
class Rules:
    """What the user allows."""

    max_kernel: int
    move_padding: bool


@dataclass(frozen=True, slots=True)
class Form:
    """One operator in place of several: `ones` if the bias needs a channel of its own."""

    geometry: Geometry
    ones: bool
    moved: bool
    has_bias: bool
    nested: bool
    positions: int
    fixed_size: bool
    first: Unit
    last: Unit

    @property
    def border(self) -> str:
        if self.ones:
            return "constant-map" if self.fixed_size else "ones-channel"
        return "moved" if self.moved else "none"

    @property
    def macs(self) -> int:
        """With what the border costs: a sum per output, or one more input channel."""
        if self.border == "ones-channel":
            wider = replace(self.geometry, groups=1, in_channels=self.geometry.in_channels + 1)
            return wider.macs(self.positions)
        added = self.geometry.out_channels if self.border == "constant-map" else 0
        return self.geometry.macs(self.positions) + added * self.positions


def form_of_unit(unit: Unit) -> Form:
    shape = unit.input.shape
    return Form(
        geometry=unit.geometry,
        ones=False,
        moved=False,
        has_bias=unit.has_bias,
        nested=False,
        positions=unit.positions,
        fixed_size=shape is not None and all(isinstance(d, int) for d in list(shape)[2:]),
        first=unit,
        last=unit,
    )


def fuse(items: Sequence[Item], rules: Rules) -> Form | str:
    """The items as one operator, or the fact that forbids it."""
    form = form_of(items[0], rules)
    for item in items[1:]:
        form = extend(form, item, rules)
    return form


def extend(form: Form | str, item: Item, rules: Rules) -> Form | str:
    """One item more; what cannot be one operator cannot become one by adding to it."""
    following = form_of(item, rules) if isinstance(form, Form) else form
    if isinstance(form, str) or isinstance(following, str):
        return form if isinstance(form, str) else following
    return _fuse_pair(form, following, rules)


def form_of(item: Item, rules: Rules) -> Form | str:
    return _block_form(item, rules) if isinstance(item, Block) else form_of_unit(item.unit)


def _fuse_pair(one: Form, two: Form, rules: Rules) -> Form | str:
    first, second = one.last.name, two.first.name
    if one.geometry.rank != two.geometry.rank:
        return f"{first} and {second} are a convolution and a matrix"
    if one.geometry.out_channels != two.geometry.in_channels:
        return f"{second} reads {two.geometry.in_channels} channels, not those of {first}"
    if two.ones or two.moved:
        return f"{second} has its border handled inside a shortcut already"
    if not (one.last.weighted or one.first.weighted or two.first.weighted):
        return f"neither {first} nor {second} has weights"
    if "Slice" in {one.first.node.op_type, two.first.node.op_type}:
        return f"{first} or {second} skips pixels, which costs nothing as it is"
    merged = compose(one.geometry, two.geometry)
    if merged.rank and max(merged.kernel) > rules.max_kernel:
        return (
            f"{first} and {second} would make a {merged} kernel, "
            f"more than --max-kernel {rules.max_kernel}"
        )
    ones, moved = one.ones, one.moved
    if two.geometry.padded:
        pads = list(two.geometry.pads)
        single = max(one.geometry.kernel) == 1 and not one.geometry.padded
        if single and not one.ones:
            ones = one.has_bias
        elif not rules.move_padding:
            return (
                f"{second} pads its input by {pads}, and {first} in front of it reads "
                f"{one.geometry} pixels: only --move-padding could merge them"
            )
        elif one.nested or two.nested or one.ones:
            return f"{second} pads its input by {pads}, which cannot move through a shortcut"
        else:
            moved = True
    return Form(
        geometry=merged,
        ones=ones,
        moved=moved,
        has_bias=one.has_bias or two.has_bias,
        nested=one.nested or two.nested,
        positions=two.positions,
        fixed_size=one.fixed_size,
        first=one.first,
        last=two.last,
    )


def _block_form(block: Block, rules: Rules) -> Form | str:
    """A branch that is one operator takes its shortcut into the kernel."""
    branch = fuse(block.branch, rules)
    if isinstance(branch, str):
        return branch
    if "Slice" in {branch.first.node.op_type, branch.last.node.op_type}:
        return f"the branch into {block.add.name} has no weights"
    projection = None
    bias = branch.has_bias
    if block.shortcut:
        shortcut = fuse(block.shortcut, rules)
        if isinstance(shortcut, str):
            return shortcut
        if shortcut.ones or shortcut.moved:
            return f"the shortcut into {block.add.name} pads inside"
        projection = shortcut.geometry
        bias = bias or shortcut.has_bias
    if not block.shortcut and branch.geometry.in_channels != branch.geometry.out_channels:
        return f"{block.add.name} broadcasts its shortcut"
    tap = shortcut_tap(branch.geometry, projection)
    if isinstance(tap, str):
        return f"{tap} ({branch.first.name}, {block.add.name})"
    geometry = with_shortcut(branch.geometry, projection)
    return replace(branch, geometry=geometry, has_bias=bias, nested=True)


def input_size(form: Form) -> tuple[int, ...]:
    """Spatial sizes of what the operator reads."""
    shape = form.first.input.shape
    return tuple(size_of(d) for d in list(shape)[2:]) if shape is not None else ()
