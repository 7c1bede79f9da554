import numpy as np
import pytest
import torch
from torch import nn

from pipeline.activations import collect
from pipeline.criteria import Scores, SiteScore
from pipeline.edits.tracing import trace
from pipeline.export import export
from pipeline.jobs.effects import losses_from, measure_effects
from pipeline.mapping import load_model, map_model


def ignore(_: int) -> None:
    pass


class Pair(nn.Module):
    """Two 1x1 pairs in a row: the first ReLU is always ON, the second is not."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 3, 1)
        self.c, self.d = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 4, 1)
        with torch.no_grad():  # the second bias takes back the first, for both signs again
            self.a.bias = nn.Parameter(torch.full((4,), 50.0))
            self.b.bias = nn.Parameter(-50.0 * self.b.weight.sum((1, 2, 3)))

    def forward(self, x):
        x = torch.nn.functional.max_pool2d(self.b(self.a(x).relu()), 2)
        return self.d(self.c(x).relu()).mean((2, 3))


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    torch.manual_seed(0)
    model, images = Pair().eval(), torch.randn(40, 2, 8, 8)
    path = export(model, images[:2], tmp_path_factory.mktemp("pair") / "pair.onnx")
    map_ = map_model(load_model(path))
    dense = trace(model, images[:2])
    return dense, map_, images, collect(dense, images.split(20), step=ignore)


def test_an_activation_that_is_linear_on_the_data_costs_nothing(setting):
    dense, map_, images, statistics = setting
    options = [o for o in map_.options if o.kind == "merge"]

    groups = [[option] for option in options]
    linear, bent = measure_effects(
        dense, map_, groups, images, statistics=statistics, stencils={}, step=ignore
    )

    assert [o.sites for o in options] == [("#0",), ("#1",)]
    assert linear == pytest.approx(0, abs=1e-9)
    assert bent > 1e-6


def test_two_options_are_measured_together(setting):
    """The first is linear on the data: with it, the second costs what it costs alone."""
    dense, map_, images, statistics = setting
    linear, bent = (o for o in map_.options if o.kind == "merge")

    alone, both = measure_effects(
        dense, map_, [[bent], [linear, bent]], images,
        statistics=statistics, stencils={}, step=ignore,
    )  # fmt: skip

    assert both == pytest.approx(alone, rel=1e-3)
    assert both > 1e-6


def test_a_criterion_says_the_sum_of_the_removed_sites(setting):
    _, map_, _, _ = setting
    values = {"#0": 0.25, "#1": 0.5}
    sites = tuple(SiteScore(id_, value, np.array([value])) for id_, value in values.items())

    losses = losses_from(Scores("easier", 1, sites), map_.options)

    for option in map_.options:
        assert losses[option.id] == sum(values[site] for site in option.sites)
