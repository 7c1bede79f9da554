"""TLC's probabilities and decisions by hand, and the closed forms of a rectified normal."""

from math import erf, exp, pi, sqrt

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline import criteria
from pipeline.activations import collect
from pipeline.criteria import Evidence
from pipeline.criteria.tlc import Tlc
from pipeline.datasets import Split
from pipeline.edits.normal import error_probability, rectified
from pipeline.edits.tracing import sites, trace

BETAS, GAMMAS = [0.5, -0.2, 1.5, -3.0, 0.0], [1.0, -0.4, 0.5, 2.0, 1.0]


class Normed(nn.Module):
    """A batch norm straight before a ReLU, and a second ReLU behind a shortcut's sum."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(5)
        self.head = nn.Linear(5, 3)
        with torch.no_grad():
            self.norm.weight.copy_(torch.tensor(GAMMAS))
            self.norm.bias.copy_(torch.tensor(BETAS))

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.norm(x))
        return self.head(functional.relu(inner + x).flatten(1))


@pytest.fixture(scope="module")
def normed() -> Evidence:
    torch.manual_seed(0)
    images = torch.randn(400, 5, 1, 1)
    model = trace(Normed().eval(), images[:2])
    statistics = collect(model, images.split(100), step=lambda _: None)
    return Evidence(model, statistics, Split(images, torch.arange(400) % 3))


def phi(t: float) -> float:
    return 0.5 * (1 + erf(t / sqrt(2)))


def test_the_error_is_the_normal_tail_of_beta_over_gamma():
    found = error_probability(np.array(BETAS), np.array(GAMMAS))

    expected = [phi(-abs(b) / abs(g)) for b, g in zip(BETAS, GAMMAS, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_channel_without_spread_makes_no_error():
    assert error_probability(np.array([-1.0, 0.0, 2.0]), np.zeros(3)).tolist() == [0.0] * 3


def test_the_parameters_of_the_batch_norm_are_used_without_data(normed):
    first, _ = Tlc(variant="error").score(normed).sites

    expected = [phi(-abs(b) / abs(g)) for b, g in zip(BETAS, GAMMAS, strict=True)]
    np.testing.assert_allclose(first.neurons, expected, atol=1e-7)  # the norm holds float32


def test_behind_a_shortcut_the_statistics_of_the_sum_are_used(normed):
    _, second = Tlc(variant="error").score(normed).sites

    with torch.no_grad():
        norm = normed.model.get_parameter("norm.weight"), normed.model.get_parameter("norm.bias")
        x = normed.calibration.images[:, :, 0, 0]
        z = (functional.relu(x / sqrt(1 + 1e-5) * norm[0] + norm[1]) + x).double()
    expected = [phi(-abs(m) / s) for m, s in zip(z.mean(0), z.std(0, correction=0), strict=True)]
    np.testing.assert_allclose(second.neurons, expected, rtol=1e-4)


def test_on_neurons_become_linear_and_off_ones_zero(normed):
    reduced = criteria.make("tlc", {"variant": "error"}).reduce(normed, 2)

    assert not sites(reduced)
    gates = dict(reduced.named_buffers())
    assert gates["gate._0.on"].flatten().tolist() == [1.0, 0.0, 1.0, 0.0, 0.0]
    assert not any("gate" in name for name, _ in reduced.named_parameters())


def test_a_score_is_what_the_collapse_adds_to_the_loss(normed):
    first, _ = Tlc().score(normed).sites
    images, labels = normed.calibration.images, normed.calibration.labels

    with torch.no_grad():
        model = Normed().eval()
        model.load_state_dict(normed.model.state_dict(), strict=False)
        on = (model.norm.bias > 0).float()[:, None, None]
        collapsed = model.head(functional.relu(model.norm(images) * on + images).flatten(1))
        gap = functional.cross_entropy(collapsed.double(), labels) - functional.cross_entropy(
            model(images).double(), labels
        )
    assert first.score == pytest.approx(float(gap), abs=1e-6)


class Sums(nn.Module):
    """Without the first two sites the labels below are met better, without the third worse."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack(
            [-functional.relu(v) * s for v, s in zip(x.T, (1, 1, 8), strict=True)], 1
        )


@pytest.fixture(scope="module")
def sums() -> Evidence:
    samples = torch.tensor([[-3.0, 0.5, 0.5], [0.5, -3.0, 0.5]] * 8 + [[0.5, -3.0, -3.0]] * 4)
    model = trace(Sums(), samples[:2])
    statistics = collect(model, [samples], step=lambda _: None)
    return Evidence(model, statistics, Split(samples, (samples[:, 0] < 0).long()))


def test_a_round_of_one_grows_while_the_loss_stays_under_the_dense_one(sums):
    gaps = [site.score for site in Tlc().score(sums).sites]

    assert gaps[0] < 0
    assert gaps[1] < 0
    assert gaps[2] > 0
    assert [site.id for site in sites(Tlc().reduce(sums, 1))] == ["#2"]


def test_several_at_a_time_are_that_many(sums):
    assert len(sites(Tlc().reduce(sums, 2))) == 1
    assert len(sites(Tlc().reduce(sums, 3))) == 0


@pytest.mark.parametrize("kind", ["relu", "relu6"])
@pytest.mark.parametrize(("beta", "gamma"), [(-1.0, 1.0), (0.5, 2.0), (5.0, 1.5), (8.0, 3.0)])
def test_the_closed_forms_agree_with_monte_carlo(kind, beta, gamma):
    z = np.random.default_rng(0).normal(beta, gamma, 2_000_000)
    psi = np.clip(z, 0, 6 if kind == "relu6" else None)

    line = rectified(kind, np.array([beta]), np.array([gamma]))

    covariance = np.cov(z, psi, bias=True)
    slope = covariance[0, 1] / covariance[0, 0]
    assert line.a[0] == pytest.approx(slope, abs=3e-3)
    assert line.c[0] == pytest.approx(psi.mean() - slope * z.mean(), abs=1e-2)
    assert line.variance[0] == pytest.approx(psi.var(), rel=5e-3)
    rest = (psi - line.a[0] * z - line.c[0]).var()
    assert line.unexplained[0] == pytest.approx(rest, rel=2e-2, abs=1e-3)


@pytest.mark.parametrize(("ratio", "share"), [(-1, 0.63), (0, 0.27), (1, 0.058), (2, 0.0054)])
def test_the_stand_in_leaves_the_published_share_of_the_variance(ratio, share):
    line = rectified("relu", np.array([ratio * 2.0]), np.array([2.0]))

    assert line.unexplained[0] / line.variance[0] == pytest.approx(share, rel=0.02)


def test_the_relu_line_is_written_down():
    line = rectified("relu", np.array([0.3]), np.array([0.7]))

    assert line.a[0] == pytest.approx(phi(0.3 / 0.7), abs=1e-12)
    assert line.c[0] == pytest.approx(0.7 * exp(-((0.3 / 0.7) ** 2) / 2) / sqrt(2 * pi), abs=1e-12)


@pytest.mark.parametrize(("beta", "output"), [(-2.0, 0.0), (3.0, 3.0), (9.0, 6.0)])
def test_a_constant_channel_is_met_exactly(beta, output):
    line = rectified("relu6", np.array([beta]), np.array([0.0]))

    assert line.a[0] * beta + line.c[0] == output
    assert line.unexplained[0] == 0.0


def test_no_closed_form_is_made_up():
    with pytest.raises(
        ValueError, match="no closed form for 'gelu'; there is one for: relu, relu6"
    ):
        rectified("gelu", np.zeros(1), np.ones(1))


def test_the_residual_reads_the_batch_norm_alone_where_it_can(normed):
    first, second = criteria.make("residual", {"variant": "norm"}).score(normed).sites
    _, from_data = criteria.make("residual").score(normed).sites

    line = rectified("relu", np.array(BETAS), np.abs(GAMMAS))
    np.testing.assert_allclose(first.neurons, line.unexplained / line.variance, rtol=1e-5)
    np.testing.assert_array_equal(second.neurons, from_data.neurons)
