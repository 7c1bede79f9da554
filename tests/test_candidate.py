"""From a plan to one operator per span: the edited torch model and the merged graph agree."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from pipeline.activations import collect
from pipeline.collapse import certify, collapse
from pipeline.edits.surgery import add_parameter
from pipeline.edits.tracing import trace
from pipeline.export import export
from pipeline.jobs.candidate import Student, inherit
from pipeline.linearise import group_weights, linearise
from pipeline.mapping import load_model, map_model
from pipeline.models import build_model
from pipeline.verify import run
from profiles.target import find_target


def ignore(_: int) -> None:
    pass


def lively(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """With batch norms that do something."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.5, 0.5)
    model.train()(images)
    return model.eval()


@pytest.mark.parametrize(
    ("spec", "options", "size", "merged"),
    [
        ("resnet18", {"width": 4}, 28, 8),
        ("mobilenetv2-half", {}, 28, 10),
        ("vgg8", {}, 28, 3),
    ],
)
def test_every_exact_merge_of_a_network_at_once_is_the_edited_torch_model(
    tmp_path, spec, options, size, merged
):
    torch.manual_seed(0)
    images = torch.randn(16, 1, size, size)
    model = build_model(spec, num_classes=5, in_channels=1, seed=0, options=options)
    lively(model, images)
    dense = trace(model, images[:2])
    map_ = map_model(load_model(export(model, images[:2], tmp_path / "dense.onnx")), max_kernel=9)
    statistics = collect(dense, images.split(8), step=ignore)
    chosen = []
    for segment in map_.segments:  # the longest span of each segment
        merges = [o for o in segment.options if o.kind == "merge" and o.sites]
        if merges:
            chosen.append(max(merges, key=lambda o: o.last - o.first))
    edited = linearise(dense, map_, chosen, statistics=statistics, stencils={})
    linear = load_model(export(edited, images[:2], tmp_path / "student.onnx"))

    found = collapse(linear, merge=[group_weights(map_.segment(o.segment), o) for o in chosen])
    ir.save(found.model, tmp_path / "collapsed.onnx")

    with torch.no_grad():
        expected = edited(images).numpy()
    outputs = run(tmp_path / "collapsed.onnx", find_target("x86-cpu"), images)
    assert len(chosen) >= merged
    assert len(found.merges) == len(chosen)
    assert np.abs(outputs - expected).max() <= 1e-4 * np.abs(expected).max()
    assert certify(linear, found.model, tolerance=1e-5, seed=0, merges=found.merges).passed
    kinds = [node.op_type for node in onnx.load(tmp_path / "collapsed.onnx").graph.node]
    removed = sum(len(o.sites) for o in chosen)
    assert kinds.count("Relu") + kinds.count("Clip") == len(map_.sites) - removed
    assert "Mul" not in kinds  # no stand-in is left over
    absorbed = sum(o.absorbs_shortcut for o in chosen)
    adds = sum(segment.shortcut is not None for segment in map_.segments)
    assert kinds.count("Add") == adds - absorbed


def test_a_warm_start_takes_what_both_networks_have_and_leaves_the_rest(tmp_path):
    """The neighbour has been trained, and lacks one refit; the other's shape of `1` differs."""
    image = torch.randn(2, 3)
    neighbour = trace(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5)), image)
    model = trace(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 6)), image)
    add_parameter(model, "refit.span.weight", torch.full((2,), 3.0))
    last = model.state_dict()["1.weight"].clone()
    for parameter in neighbour.parameters():
        nn.init.constant_(parameter, 7.0)

    inherit(model, Student(neighbour, 0.0, 0.0, tmp_path))

    found = model.state_dict()
    assert (found["0.weight"] == 7.0).all()
    assert (found["0.bias"] == 7.0).all()
    assert torch.equal(found["1.weight"], last)
    assert (found["refit.span.weight"] == 3.0).all()
