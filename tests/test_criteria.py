"""The contract of all criteria, and EASIER's and the residual's formulas by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline import criteria
from pipeline.activations import collect, rate_bound
from pipeline.criteria import Evidence
from pipeline.criteria.easier import binary_entropy
from pipeline.datasets import Split
from pipeline.edits.tracing import sites, trace
from runtimes.errors import InputError


def no_step(_: int) -> None:
    pass


def evidence_of(model: nn.Module, images: Tensor, *, batch: int = 64) -> Evidence:
    traced = trace(model, images[:2])
    labels = traced(images).argmax(1)  # what any change can only make worse
    return Evidence(
        traced, collect(traced, images.split(batch), step=no_step), Split(images, labels)
    )


class Given(nn.Module):
    """Straight rectifiers on given pre-activations, then a linear layer without surprises."""

    def __init__(self, neurons: int, kind: type[nn.Module] = nn.ReLU):
        super().__init__()
        self.act = kind()
        self.head = nn.Linear(neurons, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(x * 1.0).flatten(1))


def given(*neurons: list[float], kind: type[nn.Module] = nn.ReLU, batch: int = 64) -> Evidence:
    """Evidence of a layer whose neurons had these pre-activations, sample by sample."""
    torch.manual_seed(0)
    images = torch.tensor(neurons).T[:, :, None, None]
    return evidence_of(Given(len(neurons), kind), images, batch=batch)


class Mixed(nn.Module):
    """A site that bends its input, then one that cannot: its input is between 1 and 2."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 1)
        self.first = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.conv(x)).mean((2, 3))
        return self.head(functional.relu(torch.sigmoid(x) + 1))


@pytest.fixture(scope="module")
def mixed() -> Evidence:
    torch.manual_seed(0)
    return evidence_of(Mixed(), torch.randn(60, 2, 3, 3))


IMAGES = torch.randn(24, 2, 3, 3, generator=torch.Generator().manual_seed(4))
ALWAYS = [1.0, 2.0, 3.0, 4.0]
HALF = [-1.0, -2.0, 1.0, 2.0]
QUARTER = [-1.0, -2.0, -3.0, 2.0]
WITH_ZEROS = [0.0, 0.0, 1.0, -1.0]
ZERO = [0.0, 0.0, 0.0, 0.0]
BITS_OF_A_QUARTER = 2 - 0.75 * np.log2(3)


@pytest.mark.parametrize("name", criteria.names())
def test_every_criterion_scores_every_site_and_neuron(name, mixed):
    scores = criteria.make(name).score(mixed)

    assert scores.criterion == name
    assert scores.samples == 60
    assert [s.id for s in scores.sites] == ["first#0", "#0"]
    assert [s.neurons.shape for s in scores.sites] == [(4,), (4,)]
    assert all(np.isfinite(s.score) for s in scores.sites)


@pytest.mark.parametrize("name", criteria.names())
def test_a_site_that_is_linear_on_the_data_matters_least(name, mixed):
    bent, straight = criteria.make(name).score(mixed).sites

    assert straight.score == pytest.approx(0, abs=1e-7)
    assert bent.score > 1e-3


@pytest.mark.parametrize("name", criteria.names())
def test_reduce_removes_the_linear_site_without_changing_the_function(name, mixed):
    reduced = criteria.make(name, {"zeta": 0.0} if name == "nepenthe" else {}).reduce(mixed, 1)

    assert [site.id for site in sites(reduced)] == ["first#0"]
    torch.testing.assert_close(
        reduced(mixed.calibration.images), mixed.model(mixed.calibration.images)
    )


@pytest.mark.parametrize("name", criteria.names())
def test_reduce_leaves_the_model_and_its_statistics_alone(name, mixed):
    before = {key: value.clone() for key, value in mixed.model.state_dict().items()}

    criteria.make(name).reduce(mixed, 1)

    assert len(sites(mixed.model)) == 2
    for key, value in mixed.model.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("name", criteria.names())
def test_scores_are_the_same_every_time(name):
    def once() -> list[float]:
        torch.manual_seed(3)
        return [s.score for s in criteria.make(name).score(evidence_of(Mixed(), IMAGES)).sites]

    assert once() == once()


@pytest.mark.parametrize("name", criteria.names())
def test_per_neuron_scores_survive_a_folded_batch_norm(name):
    torch.manual_seed(0)
    images = torch.randn(40, 2, 4, 4)
    conv, norm = nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm(conv(images))
    head = [nn.Flatten(), nn.Linear(16, 3)]
    whole = nn.Sequential(conv, norm, nn.ReLU(), *head).eval()
    folded = nn.utils.fuse_conv_bn_eval(conv.eval(), norm.eval())
    single = nn.Sequential(folded, nn.ReLU(), *head).eval()

    (first,) = criteria.make(name).score(evidence_of(whole, images)).sites
    (second,) = criteria.make(name).score(evidence_of(single, images)).sites

    assert first.neurons.shape == second.neurons.shape == (4,)
    if name in ("easier", "residual"):  # the others look at the weights or the norm itself
        np.testing.assert_allclose(first.neurons, second.neurons, atol=1e-5)


class Called(nn.Module):
    """The same network with its activations as functions, or as modules."""

    def __init__(self, functions: bool):
        super().__init__()
        self.conv, self.linear, self.head = nn.Conv2d(2, 4, 3), nn.Linear(16, 5), nn.Linear(5, 3)
        self.relu, self.gelu = nn.ReLU(inplace=True), nn.GELU()
        self.functions = functions

    def forward(self, x: Tensor) -> Tensor:
        if self.functions:
            x = functional.relu(self.conv(x), inplace=True)
            return self.head(functional.gelu(self.linear(x.flatten(1))))
        return self.head(self.gelu(self.linear(self.relu(self.conv(x)).flatten(1))))


@pytest.mark.parametrize("name", criteria.names())
def test_activations_that_are_functions_score_as_modules_do(name):
    images = torch.randn(40, 2, 4, 4, generator=torch.Generator().manual_seed(5))
    scored = []
    for functions in (True, False):
        torch.manual_seed(0)
        scored.append(criteria.make(name).score(evidence_of(Called(functions), images)).sites)

    for function, module in zip(*scored, strict=True):
        assert function.score == module.score
        np.testing.assert_array_equal(function.neurons, module.neurons)
    assert [len(site.neurons) for site in scored[0]] == [4, 5]


def test_easier_is_the_mean_entropy_over_neurons_with_zeros_dropped():
    (known,) = criteria.make("easier").score(given(ALWAYS, QUARTER, WITH_ZEROS)).sites

    np.testing.assert_allclose(known.neurons, [0.0, BITS_OF_A_QUARTER, 1.0], rtol=1e-12)
    assert known.score == pytest.approx((BITS_OF_A_QUARTER + 1.0) / 3, rel=1e-12)


def test_easier_gives_a_neuron_that_was_always_zero_no_entropy():
    (known,) = criteria.make("easier").score(given(ZERO)).sites

    assert known.score == 0.0


def test_easiers_code_counts_zero_as_on():
    criterion = criteria.make("easier", {"variant": "code"})

    (known,) = criterion.score(given(ALWAYS, QUARTER, WITH_ZEROS)).sites

    expected = [0.0, BITS_OF_A_QUARTER, BITS_OF_A_QUARTER]
    np.testing.assert_allclose(known.neurons, expected, rtol=1e-12, atol=1e-12)


def test_easiers_code_averages_the_entropies_of_mini_batches():
    criterion = criteria.make("easier", {"variant": "code", "batch_size": 2})

    (known,) = criterion.score(given(HALF, QUARTER, WITH_ZEROS)).sites

    # the first neuron was off in all of one batch and on in all of the other
    np.testing.assert_allclose(known.neurons, [0.0, 0.5, 0.5], rtol=1e-12, atol=1e-12)


def test_easiers_code_sees_batch_norm_in_train_mode():
    torch.manual_seed(0)
    images = torch.randn(64, 2, 1, 1)
    norm = nn.BatchNorm2d(2)
    norm.running_mean = torch.full((2,), -100.0)  # in eval mode every z would be above 0
    model = nn.Sequential(norm, nn.ReLU(), nn.Flatten(), nn.Linear(2, 3)).eval()
    evidence = evidence_of(model, images)

    (paper,) = criteria.make("easier").score(evidence).sites
    (code,) = criteria.make("easier", {"variant": "code"}).score(evidence).sites

    assert paper.score == 0.0
    assert code.score > 0.9
    assert evidence.model.get_buffer("0.running_mean").tolist() == [-100.0, -100.0]


def test_easier_removes_every_site_of_no_entropy_at_once():
    class Idle(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = functional.relu(functional.relu(x.flatten(1).abs() + 1))
            return functional.relu(x - 2)

    evidence = evidence_of(Idle(), torch.randn(20, 3, 1, 1))

    reduced = criteria.make("easier").reduce(evidence, 1)

    assert [site.id for site in sites(reduced)] == ["#2"]


def test_the_residual_is_the_unexplained_share_of_variance():
    neurons = [ALWAYS, QUARTER, WITH_ZEROS]

    (known,) = criteria.make("residual").score(given(*neurons)).sites

    for found, z in zip(known.neurons, neurons, strict=True):
        correlation = np.corrcoef(z, np.maximum(z, 0))[0, 1]
        assert found == pytest.approx(1 - correlation**2, abs=1e-12)


def test_the_residual_of_a_site_weighs_neurons_by_what_is_passed_on():
    evidence = given(QUARTER, HALF)
    weight = evidence.model.get_parameter("head.weight").detach().double().numpy()

    (known,) = criteria.make("residual").score(evidence).sites

    gains = (weight**2).sum(0)
    variance = np.array([np.maximum(z, 0).var() for z in (QUARTER, HALF)])
    expected = (gains * variance * known.neurons).sum() / (gains * variance).sum()
    assert known.score == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", [nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.LeakyReLU])
def test_the_stand_in_of_the_residual_is_the_least_squares_line(kind):
    torch.manual_seed(1)
    evidence = given(torch.randn(50).tolist(), kind=kind)

    reduced = criteria.make("residual").reduce(evidence, 1)

    x = evidence.calibration.images.flatten()
    slope, intercept = np.polyfit(x.numpy(), kind()(x).numpy(), 1)
    found = {name: reduced.get_parameter(f"standin.act_0.{name}") for name in ("scale", "shift")}
    assert found["scale"].item() == pytest.approx(slope, rel=1e-5)
    assert found["shift"].item() == pytest.approx(intercept, rel=1e-5)


def test_entropy_is_largest_in_the_middle_and_zero_at_the_ends():
    np.testing.assert_allclose(binary_entropy(np.array([0.0, 0.5, 1.0])), [0.0, 1.0, 0.0])


def test_what_was_never_seen_is_bounded_and_not_ruled_out():
    assert rate_bound(300) == 0.01
    assert 1 - (1 - rate_bound(300)) ** 300 > 0.95
    assert rate_bound(1) == 1.0


def test_an_unknown_criterion_lists_the_known_ones():
    with pytest.raises(InputError, match=r"easier, nepenthe, residual, tlc; did you mean 'easier'"):
        criteria.get("eazier")


def test_an_unknown_option_lists_those_of_the_criterion():
    with pytest.raises(InputError, match=r"'easier' has no option 'zeta'; it has: variant"):
        criteria.make("easier", {"zeta": 0.5})


@pytest.mark.parametrize("name", criteria.names())
def test_an_unknown_variant_lists_the_known_ones(name):
    with pytest.raises(InputError, match=f"'{name}' knows no 'paperr'; there are: "):
        criteria.make(name, {"variant": "paperr"})
