"""Spans of two blocks, through the addition between them: from the map to the collapsed file."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from pipeline.activations import collect
from pipeline.collapse import certify, collapse
from pipeline.edits.refitting import RIDGE, fit
from pipeline.edits.tracing import sites, trace
from pipeline.export import export
from pipeline.feedback import Attempt
from pipeline.graphs.building import build
from pipeline.jobs.plan_record import plan_record
from pipeline.jobs.selection import Planned
from pipeline.linearise import carries_out, linearise
from pipeline.mapping import Map, Option, load_model, map_model
from pipeline.planning import Limit, Plan, solve


class Basic(nn.Module):
    """conv, norm, ReLU, conv, norm, plus the input or its projection."""

    def __init__(self, channels: int, out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(out), nn.ReLU()
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out)
        same = stride == 1 and channels == out
        self.side = nn.Identity() if same else nn.Conv2d(channels, out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + self.side(x))


class Inverted(nn.Module):
    """A linear bottleneck, its shortcut where the shapes allow it."""

    def __init__(self, channels: int, out: int, stride: int):
        super().__init__()
        wide = 3 * channels
        self.widen = nn.Conv2d(channels, wide, 1)
        self.deep = nn.Conv2d(wide, wide, 3, stride, padding=1, groups=wide)
        self.narrow = nn.Conv2d(wide, out, 1)
        self.short = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y = self.narrow(nn.functional.relu6(self.deep(nn.functional.relu6(self.widen(x)))))
        return x + y if self.short else y


def residual() -> nn.Sequential:
    """Two identity shortcuts and a projected one, activations between."""
    blocks = Basic(4, 4, 1), Basic(4, 4, 1), Basic(4, 6, 2)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2), *blocks, *head(6))


def bottlenecks() -> nn.Sequential:
    """A strided block, one with a shortcut, and one that makes more channels; nothing between."""
    blocks = Inverted(4, 5, 2), Inverted(5, 5, 1), Inverted(5, 6, 1)
    start, end = (nn.Conv2d(3, 5, 3, 2), nn.Conv2d(5, 4, 1)), (nn.Conv2d(6, 9, 1), nn.ReLU())
    return nn.Sequential(*start, *blocks, *end, *head(9))


def head(channels: int) -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3)


class Setting:
    def __init__(self, folder: Path, make: Callable[[], nn.Module]):
        torch.manual_seed(0)
        self.name = make.__name__
        model = make().train()
        self.folder, self.images = folder, torch.randn(64, 3, 18, 18)
        model(self.images)
        self.dense = trace(model.eval(), self.images[:2])
        self.model = load_model(export(model, self.images[:2], folder / "dense.onnx"))
        self.map: Map = map_model(self.model)
        self.statistics = collect(self.dense, self.images.split(32), step=lambda _: None)

    @property
    def options(self) -> list[Option]:
        return [option for run in self.map.runs for option in run.options]

    @cached_property
    def carried_out(self) -> list[tuple[Option, torch.fx.GraphModule, ir.Model]]:
        """Every option of a run alone: edited in torch, and exported."""
        edited = [(option, self.edit([option])) for option in self.options]
        return [(option, model, self.student(model)) for option, model in edited]

    def edit(self, chosen: list[Option]):
        fitted = [option for option in chosen if option.fitted]
        batches = self.images.split(32)
        stencils = fit(
            self.dense, self.dense, self.map, fitted, batches, ridge=RIDGE, step=lambda _: None
        )
        return linearise(
            self.dense, self.map, chosen, statistics=self.statistics, stencils=stencils
        )

    def student(self, edited: torch.fx.GraphModule) -> ir.Model:
        return load_model(export(edited, self.images[:2], self.folder / "student.onnx"))


@pytest.fixture(scope="module", params=[residual, bottlenecks], ids=["residual", "bottlenecks"])
def setting(request, tmp_path_factory) -> Setting:
    return Setting(tmp_path_factory.mktemp("runs"), request.param)


def run(model: ir.Model, images: Tensor) -> Tensor:
    content = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
    return torch.from_numpy(np.asarray(found))


SHOWN = {
    "residual": {
        "2..3": (("2.relu#0", "2.relu#1", "3.relu#0"), [(3, 3), (1, 1)]),
        "3..4": (("3.relu#0", "3.relu#1", "4.relu#0"), [(3, 3)]),
    },
    "bottlenecks": {
        "2..3": (("2#0", "2#1", "3#0", "3#1"), [(3, 3)]),
        "3..4": (("3#0", "3#1", "4#0", "4#1"), [(3, 3), (1, 1)]),
    },
}


def test_two_neighbours_are_one_span_with_every_site_between(setting):
    shown = {run.id: (run.sites, [o.kernel for o in run.options]) for run in setting.map.runs}

    assert shown == SHOWN[setting.name]


def test_what_is_offered_is_the_same_in_torch_in_its_export_and_collapsed(setting):
    assert setting.options
    for option, edited, student in setting.carried_out:
        assert carries_out(setting.dense, setting.map.segment(option.segment), option)
        done = collapse(student, merge=[]).model

        expected = edited(setting.images[:8]).detach()
        for model in (student, done):
            torch.testing.assert_close(
                run(model, setting.images[:8]), expected, rtol=1e-4, atol=1e-4
            )
        assert certify(student, done, tolerance=1e-5, seed=0).passed
        assert len(sites(edited)) == len(setting.map.sites) - len(option.sites)


def test_what_is_timed_is_what_is_trained_with_the_macs_and_the_depth_that_were_reckoned(setting):
    for option, _, student in setting.carried_out:
        built = map_model(build(setting.model, setting.map, [option], seed=0))
        exported = map_model(student)

        assert built.macs == exported.macs == setting.map.macs - option.macs_before + option.macs
        assert built.depth == exported.depth
        assert built.depth == setting.map.depth - (option.last - option.first)
        assert len(built.operators) == len(setting.map.operators) - len(option.replaces) + 1
        assert [o.geometry for o in built.operators] == [o.geometry for o in exported.operators]


def test_runs_and_spans_beside_them_are_carried_out_together(setting):
    """The second run, and in front of it a smaller kernel for a block that it does not touch."""
    later = setting.map.runs[1].options[0]
    earlier = next(
        o
        for o in setting.map.options
        if o.kind == "refit"
        and o.segment != later.segment
        and not {*o.replaces} & {*later.replaces}
    )

    edited = setting.edit([earlier, later])
    student = setting.student(edited)

    expected = edited(setting.images[:8]).detach()
    torch.testing.assert_close(run(student, setting.images[:8]), expected, rtol=1e-4, atol=1e-4)
    for chosen in ([earlier, later], [later, earlier]):
        built = map_model(build(setting.model, setting.map, chosen, seed=0))
        assert built.macs == map_model(student).macs


def test_no_plan_holds_a_run_and_a_span_that_it_covers(setting):
    first = setting.map.runs[0]
    inside = [o for o in setting.map.options if o.segment == first.through[1]]
    options = [*first.options, *inside]
    losses = dict.fromkeys((o.id for o in options), 0.0)
    quicker = Limit("here", 10.0, dict.fromkeys(losses, -1.0), 9.0)
    impossible = Limit("here", 10.0, dict.fromkeys(losses, -1.0), 8.0)

    assert inside
    assert solve(options, losses, [quicker]) is not None
    for one in inside:
        assert solve([*first.options, one], losses, [impossible]) is None
        with pytest.raises(ValueError, match="replace the same operators"):
            build(setting.model, setting.map, [first.options[0], one], seed=0)


def test_the_record_of_a_plan_has_a_run_once_and_keeps_no_part_of_it(setting):
    first, second = setting.map.runs
    plan = Plan((first.options[0].id,), {}, {}, 0.0, "optimal", 0.0)
    attempt = Attempt(plan, (), ())
    planned = Planned("planned", attempt, (), None)
    result: Any = SimpleNamespace(map_=setting.map, tables=(), goals=())
    candidate: Any = SimpleNamespace(options=(first.options[0],), planned=planned)

    rows = plan_record(result, candidate).segments

    kept = [s.id for s in setting.map.segments if s.id not in first.through]
    assert [(row.segment, row.choice) for row in rows if row.choice == "keep"] == [
        (id_, "keep") for id_ in kept
    ]
    (made,) = [row for row in rows if row.choice != "keep"]
    assert (made.segment, made.operators_after) == (first.id, 1)
    assert made.operators_before == len(first.options[0].replaces)
    assert made.macs_before == first.macs
    assert second.id not in {row.segment for row in rows}


@pytest.mark.parametrize("stride", [1, 2])
def test_two_blocks_that_are_one_small_convolution_already_are_recovered(tmp_path, stride):
    """Activations always on, all kernels but the first 1x1 in disguise: one 3x3 is all there is."""

    def always_on() -> nn.Module:
        blocks = Basic(4, 4, stride), Basic(4, 4, 1)
        return nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 4, 1), *blocks, *head(4))

    setting = Setting(tmp_path, always_on)
    with torch.no_grad():
        for name, parameter in setting.dense.named_parameters():
            if name.endswith(("bn1.bias", "bn2.bias")):
                parameter.fill_(50.0)
            if name in {"2.conv2.weight", "3.conv1.weight", "3.conv2.weight"}:
                centre = parameter[:, :, 1, 1].clone()
                parameter.zero_()[:, :, 1, 1] = centre
    option = setting.options[0]
    assert option.kernel == (3, 3)

    edited = setting.edit([option])

    found, expected = edited(setting.images).detach(), setting.dense(setting.images).detach()
    scale = float((expected - expected.mean(0)).abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02 * scale)


def test_blocks_that_share_their_weights_are_told_apart_and_not_edited_in_torch(tmp_path):
    block = Basic(3, 3, 1)
    model = nn.Sequential(nn.MaxPool2d(2), block, block, *head(3)).eval()
    example = torch.randn(2, 3, 8, 8)
    dense = trace(model, example)

    found = map_model(load_model(export(model, example, tmp_path / "shared.onnx")))

    assert len(found.runs) == 1
    assert len({option.id for option in found.options}) == len(found.options) > 0
    assert not [o for o in found.options if carries_out(dense, found.segment(o.segment), o)]
