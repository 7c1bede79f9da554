from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.activations import Statistics, collect
from pipeline.edits.refitting import RIDGE, fit
from pipeline.edits.tracing import reading, sites, trace
from pipeline.export import export
from pipeline.finetune import predict
from pipeline.linearise import Stencil, carries_out, group_weights, linearise
from pipeline.mapping import Map, Option, load_model, map_model
from pipeline.models import build_model


def no_step(_: int) -> None:
    pass


class Setting:
    """A width-4 ResNet-18 with lively batch norms, its map and its statistics."""

    def __init__(self, folder: Path):
        torch.manual_seed(0)
        model = build_model("resnet18", num_classes=5, in_channels=1, seed=0, options={"width": 4})
        self.images = torch.randn(64, 1, 20, 20)
        model.train()
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.uniform_(norm.bias, -0.5, 0.5)
        model(self.images)
        self.dense = trace(model, self.images[:2])
        path = export(model.eval(), self.images[:2], folder / "dense.onnx")
        self.map: Map = map_model(load_model(path))
        self.statistics: Statistics = collect(self.dense, self.images.split(32), step=no_step)

    def option(self, start: str) -> Option:
        (found,) = [o for o in self.map.options if o.id.startswith(start)]
        return found

    def edit(self, chosen: list[Option], stencils: dict[str, Stencil] | None = None):
        return linearise(
            self.dense, self.map, chosen, statistics=self.statistics, stencils=stencils or {}
        )

    def fit(self, option: Option) -> dict[str, Stencil]:
        batches = self.images.split(32)
        return fit(self.dense, self.dense, self.map, [option], batches, ridge=RIDGE, step=no_step)


@pytest.fixture(scope="module")
def setting(tmp_path_factory) -> Setting:
    return Setting(tmp_path_factory.mktemp("dense"))


def test_sites_have_the_same_ids_in_torch_and_in_onnx(setting):
    assert [s.id for s in sites(setting.dense)] == [s.id for s in setting.map.sites]


def test_nothing_chosen_changes_nothing(setting):
    assert torch.equal(setting.edit([])(setting.images), setting.dense(setting.images))


@pytest.mark.parametrize("block", ["layer1.0", "layer2.0"])
def test_a_merge_moves_the_padding_to_the_first_operator(setting, block):
    option = setting.option(f"{block}/merge")
    edited = setting.edit([option])

    paddings = {
        name: reading(edited, name).args[4]
        for name in (f"{block}.conv1.weight", f"{block}.conv2.weight")
    }
    assert paddings[f"{block}.conv1.weight"] == list(option.geometry.begins)
    assert paddings[f"{block}.conv2.weight"] == [0, 0]


@pytest.mark.parametrize("block", ["layer1.0", "layer2.0"])
def test_a_merge_puts_the_stand_in_where_the_activation_was(setting, block):
    edited = setting.edit([setting.option(f"{block}/merge")])

    names = [name for name, _ in edited.named_parameters()]
    assert len(sites(edited)) == len(sites(setting.dense)) - 1
    assert [n for n in names if n.startswith("standin")] == [
        f"standin.{block.replace('.', '_')}_relu_0.scale",
        f"standin.{block.replace('.', '_')}_relu_0.shift",
    ]


def test_a_merge_keeps_the_interior_close_and_changes_the_border(setting):
    """With the stand-in fitted, the output of the block differs; the model is not the same."""
    edited = setting.edit([setting.option("layer1.0/merge")])

    assert not torch.allclose(edited(setting.images), setting.dense(setting.images), atol=1e-3)


def test_a_refit_replaces_the_whole_block_and_its_shortcut(setting):
    option = setting.option("layer2.0/refit-3x3")
    edited = setting.edit([option], setting.fit(option))

    names = {name for name, _ in edited.named_parameters()} | {
        name for name, _ in edited.named_buffers()
    }
    assert not [name for name in names if name.startswith("layer2.0.")]
    assert edited(setting.images).shape == (64, 5)


def test_a_fitted_kernel_is_closer_than_a_random_one(setting):
    option = setting.option("layer1.1/refit-3x3")
    fitted = setting.fit(option)
    shape = fitted[option.id].weight.shape
    random = {option.id: Stencil(torch.randn(shape) / 6, torch.zeros(shape[0]))}
    expected = predict(setting.dense, setting.images)

    errors = [
        float((predict(setting.edit([option], s), setting.images) - expected).square().mean())
        for s in (fitted, random)
    ]

    assert errors[0] < 0.2 * errors[1]


def test_a_block_that_is_one_small_convolution_already_is_recovered(tmp_path):
    """Its activation always ON, its second kernel a 1x1 in disguise: 3x3 is all there is."""
    setting = Setting(tmp_path)
    with torch.no_grad():
        setting.dense.get_parameter("layer1.1.bn1.bias").fill_(50.0)
        kernel = setting.dense.get_parameter("layer1.1.conv2.weight")
        centre = kernel[:, :, 1, 1].clone()
        kernel.zero_()[:, :, 1, 1] = centre
    option = setting.option("layer1.1/refit-3x3")

    edited = setting.edit([option], setting.fit(option))

    found, expected = edited(setting.images), setting.dense(setting.images)
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)


def test_the_edited_model_shares_no_weights_with_the_dense_one(setting):
    before = setting.dense(setting.images)
    edited = setting.edit([setting.option("layer1.0/merge")])
    with torch.no_grad():
        for parameter in edited.parameters():
            parameter.zero_()

    assert torch.equal(setting.dense(setting.images), before)


def test_what_torch_cannot_carry_out_is_not_offered(setting):
    merge = setting.option("layer1.0/merge")
    segment = setting.map.segment("layer1.0")
    g = merge.geometry
    uneven = replace(merge, geometry=replace(g, pads=(2, 2, 1, 2)))
    line = replace(merge, geometry=replace(g, kernel=(5,), pads=(2, 2)))
    grouped = replace(merge, kind="refit", geometry=replace(g, groups=2))
    unknown = replace(merge, sites=("layer9.relu#0",))

    assert carries_out(setting.dense, segment, merge)
    for option in (uneven, line, grouped, unknown):
        assert not carries_out(setting.dense, segment, option)
    assert not carries_out(
        setting.dense,
        replace(
            segment,
            operators=(segment.operators[0], replace(segment.operators[1], weight="gone.weight")),
        ),
        merge,
    )


def test_collapse_is_told_which_weights_become_one(setting):
    segment = setting.map.segment("layer2.0")

    assert group_weights(segment, setting.option("layer2.0/merge")) == (
        "layer2.0.conv1.weight",
        "layer2.0.conv2.weight",
        "layer2.0.downsample.0.weight",
    )
