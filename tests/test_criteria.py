import numpy as np
import pytest

from pipeline import criteria
from pipeline.activations import SiteStatistics, Statistics
from pipeline.criteria.easier import binary_entropy
from runtimes.errors import InputError


def site(id_: str, z: np.ndarray) -> SiteStatistics:
    """Of a ReLU whose pre-activations are z, (neurons, samples)."""
    psi = np.maximum(z, 0)
    return SiteStatistics(
        id_,
        "relu",
        z.shape[1],
        (z > 0).sum(1),
        (z < 0).sum(1),
        (z == 0).sum(1),
        (z > 6).sum(1),
        z.sum(1),
        (z * z).sum(1),
        psi.sum(1),
        (psi * psi).sum(1),
        (z * psi).sum(1),
    )


ALWAYS = np.array([1.0, 2.0, 3.0, 4.0])
NEVER = -ALWAYS
HALF = np.array([-1.0, -2.0, 1.0, 2.0])
QUARTER = np.array([-1.0, -2.0, -3.0, 2.0])
WITH_ZEROS = np.array([0.0, 0.0, 1.0, -1.0])
ZERO = np.zeros(4)
LAYER = Statistics(4, (site("known", np.stack([ALWAYS, QUARTER, WITH_ZEROS])),))


@pytest.mark.parametrize("name", criteria.names())
def test_every_criterion_scores_every_site_and_neuron(name):
    statistics = Statistics(
        4, (site("mixed", np.stack([HALF, QUARTER])), site("linear", np.stack([ALWAYS, NEVER])))
    )

    scores = criteria.get(name)().score(statistics)

    assert scores.criterion == name
    assert scores.samples == 4
    assert [s.id for s in scores.sites] == ["mixed", "linear"]
    assert [s.neurons.shape for s in scores.sites] == [(2,), (2,)]
    assert all(np.isfinite(s.score) for s in scores.sites)


@pytest.mark.parametrize("name", criteria.names())
def test_a_site_that_is_linear_on_the_data_matters_least(name):
    statistics = Statistics(
        4, (site("mixed", np.stack([HALF, QUARTER])), site("linear", np.stack([ALWAYS, NEVER])))
    )

    mixed, linear = criteria.get(name)().score(statistics).sites

    assert linear.score == pytest.approx(0, abs=1e-12)
    assert mixed.score > 0.1


def test_easier_is_the_mean_entropy_over_neurons_with_zeros_dropped():
    (known,) = criteria.get("easier")().score(LAYER).sites

    quarter = 2 - 0.75 * np.log2(3)  # bits of p = 1/4
    np.testing.assert_allclose(known.neurons, [0.0, quarter, 1.0], rtol=1e-12)
    assert known.score == pytest.approx((quarter + 1.0) / 3, rel=1e-12)


def test_easier_gives_a_neuron_that_was_always_zero_no_entropy():
    (known,) = criteria.get("easier")().score(Statistics(4, (site("z", ZERO[None]),))).sites

    assert known.score == 0.0


def test_the_residual_is_the_unexplained_share_of_variance():
    (known,) = criteria.get("residual")().score(LAYER).sites

    for neuron, z in zip(known.neurons, [ALWAYS, QUARTER, WITH_ZEROS], strict=True):
        assert neuron == pytest.approx(1 - np.corrcoef(z, np.maximum(z, 0))[0, 1] ** 2, abs=1e-12)


def test_entropy_is_largest_in_the_middle_and_zero_at_the_ends():
    np.testing.assert_allclose(binary_entropy(np.array([0.0, 0.5, 1.0])), [0.0, 1.0, 0.0])


def test_an_unknown_criterion_lists_the_known_ones():
    with pytest.raises(InputError, match=r"easier, residual; did you mean 'easier'"):
        criteria.get("eazier")
