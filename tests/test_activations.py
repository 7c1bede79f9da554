import numpy as np
import pytest
import torch
from torch import nn

from pipeline.activations import SiteStatistics, collect
from pipeline.edits import counting
from pipeline.edits.tracing import sites, trace
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


class Straight(nn.Module):
    """An activation straight on its input, whose channels come first or last."""

    def __init__(self, kind: type[nn.Module], last: bool):
        super().__init__()
        self.act, self.last = kind(), last
        self.eye = nn.Linear(3, 3, bias=False)
        nn.init.eye_(self.eye.weight)

    def forward(self, x):
        return self.act(self.eye(x) if self.last else x * 1.0)


@pytest.mark.parametrize("kind", [nn.ReLU, nn.ReLU6, nn.GELU])
@pytest.mark.parametrize(
    "shape", [(2, 3, 200, 120), (70, 3, 7, 5), (9, 40, 3), (2100, 2, 3), (900, 3, 2, 2)]
)
def test_however_a_batch_is_cut_the_sums_are_the_same(kind, shape, monkeypatch):
    monkeypatch.setattr(counting, "BLOCK", 2**12)
    x = (torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 4).round(decimals=1)
    model = Straight(kind, last=shape[-1] == 3)

    site = statistics_of(model, x, batch=len(x))

    z = x.movedim(-1 if shape[-1] == 3 else 1, 0).flatten(1)
    psi = kind()(z).double().numpy()
    z = z.double().numpy()
    assert site.count == z.shape[1]
    assert site.positive.tolist() == (z > 0).sum(1).tolist()
    assert site.negative.tolist() == (z < 0).sum(1).tolist()
    assert site.zero.tolist() == (z == 0).sum(1).tolist()
    assert site.saturated.tolist() == ((z > 6).sum(1) * (kind is nn.ReLU6)).tolist()
    for found, expected in (
        (site.z, z),
        (site.zz, z * z),
        (site.psi, psi),
        (site.psi_psi, psi * psi),
        (site.z_psi, z * psi),
    ):
        np.testing.assert_allclose(found, expected.sum(1), rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("shape", [(40, 1, 700, 700), (1, 1, 1, 2**24 + 3)])
def test_counters_stay_exact_where_float32_would_not_hold_them(shape):
    accumulator = counting.Accumulator(sites(trace(Straight(nn.ReLU, False), IMAGES))[0])
    z = torch.ones(()).expand(shape)

    accumulator.add(z, None)

    assert accumulator.counters().flatten().tolist() == [z.numel(), 0, 0, 0]


class Shared(nn.Module):
    """What the ReLUs see is read again by the sum, or is the caller's own tensor."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        z = self.conv(torch.relu(x) + x)
        return torch.relu(torch.relu(z) - z) + torch.relu(z + 1) + x


def test_a_pre_activation_that_is_read_elsewhere_stays_what_it_was():
    torch.manual_seed(0)
    x = torch.randn(5, 3, 4, 4)
    before, model = x.clone(), Shared()
    traced = trace(model, x)

    found = collect(traced, [x], step=no_step)

    assert torch.equal(x, before)
    z = model.conv(torch.relu(x) + x)
    for site, expected in zip(found.sites, (x, z, torch.relu(z) - z, z + 1), strict=True):
        sums = expected.detach().double().transpose(0, 1).flatten(1).sum(1).numpy()
        np.testing.assert_allclose(site.z, sums, rtol=1e-5, atol=1e-5)


class Looked(nn.Module):
    """A ReLU on three values of every token."""

    def __init__(self):
        super().__init__()
        table = [[1.0, -1.0, 2.0], [9.0, 9.0, 9.0], [-2.0, 3.0, 1.0], [-4.0, 0.0, 5.0]]
        self.table = nn.Embedding.from_pretrained(torch.tensor(table))
        self.eye = nn.Linear(3, 3, bias=False)
        nn.init.eye_(self.eye.weight)

    def forward(self, input_ids, attention_mask):
        return torch.relu(self.eye(self.table(input_ids))) * attention_mask.unsqueeze(-1)


def test_padding_is_not_counted():
    x = torch.tensor([[[0, 1, 1], [1, 0, 0]], [[2, 3, 1], [1, 1, 0]]])  # ids, mask of two texts

    (site,) = collect(trace(Looked(), x), [x], step=no_step).sites

    assert site.count == 3
    assert site.positive.tolist() == [1, 1, 3]
    assert site.z.tolist() == [-5.0, 2.0, 8.0]


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
