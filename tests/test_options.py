"""Low rank, drop and smaller kernels: from the torch edit to the collapsed file, as numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from pipeline.activations import collect
from pipeline.collapse import certify, collapse
from pipeline.edits.refitting import RIDGE, _Normal, fit
from pipeline.edits.tracing import sites, trace
from pipeline.export import export
from pipeline.graphs.building import build
from pipeline.graphs.geometry import matrix
from pipeline.linearise import carries_out, linearise
from pipeline.mapping import Map, Option, load_model, map_model
from pipeline.verbs.plan_file import losses_of


class Tiny(nn.Module):
    """A residual block, a projected one, a plain pair that keeps its shape, and an MLP."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.a1, self.a2 = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.b1 = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.b2, self.side = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(4, 8, 1, stride=2)
        self.c1, self.c2 = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.d1, self.d2 = nn.Linear(8, 32), nn.Linear(32, 8)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.stem(x).relu(), 2)
        x = (x + self.a2(self.a1(x).relu())).relu()
        x = (self.side(x) + self.b2(self.b1(x).relu())).relu()
        x = nn.functional.max_pool2d(self.c2(self.c1(x).relu()), 2).flatten(2).transpose(1, 2)
        x = self.norm(self.d2(nn.functional.gelu(self.d1(self.norm(x)))))
        return self.head(x.mean(1))


class Setting:
    def __init__(self, folder: Path):
        torch.manual_seed(0)
        model = Tiny().eval()
        self.folder, self.images = folder, torch.randn(96, 1, 16, 16)
        self.dense = trace(model, self.images[:2])
        self.model = load_model(export(model, self.images[:2], folder / "dense.onnx"))
        self.map: Map = map_model(self.model)
        self.statistics = collect(self.dense, self.images.split(48), step=lambda _: None)

    def edit(self, option: Option):
        fitted = [option] if option.fitted else []
        batches = self.images.split(48)
        stencils = fit(
            self.dense, self.dense, self.map, fitted, batches, ridge=RIDGE, step=lambda _: None
        )
        return linearise(
            self.dense, self.map, [option], statistics=self.statistics, stencils=stencils
        )


@pytest.fixture(scope="module")
def setting(tmp_path_factory) -> Setting:
    return Setting(tmp_path_factory.mktemp("options"))


def run(model: ir.Model, images: Tensor) -> np.ndarray:
    content = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: images.numpy()})[0])


NEW = [
    ("a1", "drop", None),
    ("b1", "drop", None),
    ("c1", "drop", None),
    ("d1", "drop", None),
    ("d1", "low-rank", 2),
    ("d1", "low-rank", 1),
    ("b1", "refit", (5, 5)),
    ("b1", "refit", (1, 1)),
]


def find(setting: Setting, first: str, kind: str, size) -> Option:
    for option in setting.map.options:
        operator = setting.map.segment(option.segment).operators[option.first]
        shape = {"refit": option.geometry.kernel, "low-rank": option.rank}.get(option.kind)
        if operator.scope == first and (option.kind, shape) == (kind, size):
            return option
    raise AssertionError(f"no {kind} {size} of {first}: {[o.id for o in setting.map.options]}")


@pytest.mark.parametrize(("first", "kind", "size"), NEW)
def test_an_option_is_the_same_in_torch_in_its_export_and_collapsed(setting, first, kind, size):
    option = find(setting, first, kind, size)
    assert carries_out(setting.dense, setting.map.segment(option.segment), option)

    edited = setting.edit(option)
    student = load_model(export(edited, setting.images[:2], setting.folder / "student.onnx"))
    merges = collapse(student, merge=[])

    expected = edited(setting.images[:8]).detach()
    for model in (student, merges.model):
        torch.testing.assert_close(
            torch.from_numpy(run(model, setting.images[:8])), expected, rtol=1e-3, atol=1e-4
        )
    assert certify(student, merges.model, tolerance=1e-5, seed=0).passed
    assert len(sites(edited)) == len(setting.map.sites) - len(option.sites)


@pytest.mark.parametrize(("first", "kind", "size"), NEW)
def test_the_network_that_is_timed_is_the_one_that_is_trained(setting, first, kind, size):
    """The built network of random weights has the operators of the edited model's export."""
    option = find(setting, first, kind, size)

    built = map_model(build(setting.model, setting.map, [option], seed=0))
    exported = map_model(
        load_model(export(setting.edit(option), setting.images[:2], setting.folder / "e.onnx"))
    )

    assert built.macs == exported.macs == setting.map.macs - option.macs_before + option.macs
    assert [str(o.geometry) for o in built.operators] == [
        str(o.geometry) for o in exported.operators
    ]
    assert run(build(setting.model, setting.map, [option], seed=0), setting.images[:3]).shape == (
        3,
        3,
    )


def test_dropping_a_residual_block_leaves_its_input_and_a_projected_one_its_projection(setting):
    for first, gone, stays in (("a1", ("a1", "a2"), ""), ("b1", ("b1", "b2"), "side")):
        edited = setting.edit(find(setting, first, "drop", None))

        names = {name.split(".")[0] for name, _ in edited.named_parameters()}
        assert names.isdisjoint(gone)
        assert not stays or stays in names


def test_several_drops_in_a_row_and_in_any_order_are_built(setting):
    drops = [o for o in setting.map.options if o.kind == "drop"]
    assert len(drops) == 4

    for chosen in (drops, drops[::-1]):
        built = build(setting.model, setting.map, chosen, seed=0)
        assert [o.scope for o in map_model(built).operators] == ["stem", "side", "head"]
        assert run(built, setting.images[:2]).shape == (2, 3)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_the_two_matrices_are_the_best_of_their_rank(rank):
    """Against the truncated SVD of the whitened problem, and against full rank."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(500, 6, generator=rng) @ torch.randn(6, 6, generator=rng) + 2.0
    y = (x @ torch.randn(6, 4, generator=rng)).tanh() + torch.randn(500, 4, generator=rng) - 1.0
    option = Option(
        id="o", segment="s", kind="low-rank", first=0, last=1, absorbs_shortcut=False, sites=(),
        geometry=matrix(6, 4), pooled=False, border="none", macs=0, macs_before=0,
        replaces=("first", "second"), rank=rank,
    )  # fmt: skip
    normal = _Normal(option)
    normal.add(x, y)

    found = normal.solve(1e-9)

    assert found.inner is not None
    assert found.inner.shape == (rank, 6)
    fitted = x.double() @ (found.weight @ found.inner).T + found.bias
    error = float((fitted - y).square().sum())
    centred, wanted = (x - x.mean(0)).double(), (y - y.mean(0)).double()
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    whitened = torch.linalg.svdvals(left.T @ wanted)
    least = wanted.square().sum() - whitened[:rank].square().sum()
    assert error == pytest.approx(float(least), rel=1e-4)
    assert len(values) == 6


def test_without_data_more_of_the_function_is_kept_and_a_site_weighs_more_than_all_of_it(setting):
    losses = losses_of(setting.map.options, None)
    ways = (("merge", None), ("refit", (5, 5)), ("refit", (1, 1)), ("drop", None))
    merge, wide, narrow, drop = (losses[find(setting, "b1", *way).id] for way in ways)

    assert merge == 1 < wide < narrow < drop < 1.01
    thick, thin = (losses[find(setting, "d1", "low-rank", r).id] for r in (2, 1))
    assert 1 < thick < thin < losses[find(setting, "d1", "drop", None).id]


def test_what_torch_cannot_drop_or_thin_is_not_offered(setting):
    thin, drop = find(setting, "d1", "low-rank", 2), find(setting, "a1", "drop", None)
    block, matrices = (setting.map.segment(o.segment) for o in (drop, thin))
    unnamed = replace(block, operators=(replace(block.operators[0], weight="gone.weight"),) * 2)

    assert carries_out(setting.dense, matrices, thin)
    assert carries_out(setting.dense, block, drop)
    assert not carries_out(setting.dense, block, thin)  # convolutions have no rank
    assert not carries_out(setting.dense, unnamed, drop)
    assert not carries_out(setting.dense, matrices, replace(thin, sites=("gone#0",)))
