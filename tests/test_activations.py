import numpy as np
import pytest
import torch
from torch import nn

from pipeline.activations import SiteStatistics, collect
from pipeline.tracing import trace
from runtimes.errors import InputError


def no_step(_: int) -> None:
    pass


def statistics_of(model: nn.Module, images: torch.Tensor, batch: int) -> SiteStatistics:
    found = collect(trace(model, images), images.split(batch), step=no_step)
    return found.sites[0]


class Known(nn.Module):
    """An in-place ReLU6 straight on the three channels of its input."""

    def __init__(self):
        super().__init__()
        self.act = nn.ReLU6(inplace=True)

    def forward(self, x):
        return self.act(x * 1.0)


IMAGES = torch.tensor([[-1.0, 0.0, 2.0], [3.0, 0.0, 7.0], [-2.0, 0.0, 8.0], [1.0, 5.0, 2.0]])[
    :, :, None, None
]


def test_counters_are_of_the_pre_activation_even_in_place():
    site = statistics_of(Known(), IMAGES, batch=4)

    assert site.positive.tolist() == [2, 1, 4]
    assert site.negative.tolist() == [2, 0, 0]
    assert site.zero.tolist() == [0, 3, 0]
    assert site.saturated.tolist() == [0, 0, 2]
    assert site.count == 4


def test_moments_are_the_sums_over_all_samples():
    site = statistics_of(Known(), IMAGES, batch=4)

    assert site.z.tolist() == [1.0, 5.0, 19.0]
    assert site.zz.tolist() == [15.0, 25.0, 121.0]
    assert site.psi.tolist() == [4.0, 5.0, 16.0]
    assert site.psi_psi.tolist() == [10.0, 25.0, 80.0]
    assert site.z_psi.tolist() == [10.0, 25.0, 98.0]


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_the_batch_size_changes_nothing(batch):
    whole, parts = (statistics_of(Known(), IMAGES, batch=b) for b in (4, batch))

    assert np.array_equal(whole.positive, parts.positive)
    np.testing.assert_allclose(whole.z_psi, parts.z_psi, rtol=1e-14)


def test_the_stand_in_is_the_least_squares_line():
    torch.manual_seed(0)
    images, conv = torch.randn(50, 3, 4, 4), nn.Conv2d(3, 5, 1)
    site = statistics_of(nn.Sequential(conv, nn.GELU()), images, batch=16)

    a, c = site.affine()

    z = conv(images).transpose(0, 1).flatten(1).detach().double().numpy()
    psi = torch.nn.functional.gelu(torch.from_numpy(z)).numpy()
    for neuron in range(5):
        slope, intercept = np.polyfit(z[neuron], psi[neuron], 1)
        assert a[neuron] == pytest.approx(slope, rel=1e-5)
        assert c[neuron] == pytest.approx(intercept, rel=1e-5)
        rest = psi[neuron] - slope * z[neuron] - intercept
        assert site.unexplained()[neuron] == pytest.approx(rest.var(), rel=1e-4)


def test_a_neuron_that_never_varies_is_replaced_by_its_constant():
    site = statistics_of(Known(), torch.full((6, 3, 1, 1), 2.0), batch=3)

    a, c = site.affine()

    assert a.tolist() == [0.0] * 3
    assert c.tolist() == [2.0] * 3


def test_an_always_on_neuron_is_the_identity():
    a, c = statistics_of(Known(), torch.rand(30, 3, 2, 2) + 0.5, batch=10).affine()

    np.testing.assert_allclose(a, 1.0, rtol=1e-9)
    np.testing.assert_allclose(c, 0.0, atol=1e-9)


def test_a_model_without_activations_is_refused():
    with pytest.raises(InputError, match="no activation"):
        statistics_of(nn.Sequential(nn.Conv2d(3, 2, 1)), IMAGES, batch=4)


def test_an_empty_calibration_set_is_refused():
    with pytest.raises(InputError, match="empty"):
        collect(trace(Known(), IMAGES), [], step=no_step)
