"""NEPENTHE's measure, its budget by hand, its masks, and what an emptied layer leaves behind."""

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from pipeline.activations import collect
from pipeline.criteria import Evidence
from pipeline.criteria.nepenthe import Nepenthe, smallest_removed, split_budget
from pipeline.datasets import Split
from pipeline.edits.emptied import drop_emptied
from pipeline.edits.neighbours import bypassed, constant, feeding, weight_node
from pipeline.edits.removal import bake_masks, mask_weight
from pipeline.edits.surgery import detached_copy, prune_unused
from pipeline.edits.tracing import set_training, sites, trace
from pipeline.finetune import Schedule, train


def evidence_of(model: fx.GraphModule, images: Tensor) -> Evidence:
    statistics = collect(model, [images], step=lambda _: None)
    return Evidence(model, statistics, Split(images, torch.arange(len(images)) % 3))


class Three(nn.Module):
    """Three neurons with known weights: on in 1 of 4, in 2 of 4 (zeros dropped: 1 of 2), always."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3, bias=False)
        self.head = nn.Linear(3, 3)
        with torch.no_grad():
            self.linear.weight.copy_(
                torch.tensor([[2.0, 0.0, 0.0], [0.0, -3.0, 0.0], [0.0, 0.0, 5.0]])
            )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.linear(x)))


SAMPLES = torch.tensor([[1.0, 0.0, 1.0], [-1.0, 0.0, 2.0], [-2.0, 1.0, 3.0], [-3.0, -1.0, 4.0]])
BITS_OF_A_QUARTER = 2 - 0.75 * np.log2(3)


@pytest.fixture(scope="module")
def three() -> Evidence:
    torch.manual_seed(0)
    return evidence_of(trace(Three(), SAMPLES), SAMPLES)


def test_irrelevance_is_entropy_times_the_mean_weight_of_selected_neurons(three):
    (known,) = Nepenthe().score(three).sites

    np.testing.assert_allclose(known.neurons, [BITS_OF_A_QUARTER * 2, 3.0, 0.0], rtol=1e-12)
    assert known.score == pytest.approx((BITS_OF_A_QUARTER * 2 + 3.0) / 2, rel=1e-12)


def test_egp_counts_zeros_as_off_and_takes_the_mean_weight_of_the_layer(three):
    (known,) = Nepenthe(variant="egp").score(three).sites

    assert known.score == pytest.approx(BITS_OF_A_QUARTER * (2 + 3 + 5) / 3, rel=1e-12)


def test_the_budget_goes_where_irrelevance_is_least_and_overflow_is_dealt_again():
    # R = (9, 4.5, 4.5, 2.25): the first layer's share of 200 is 195.6, over its 100.
    # Left are 100 for R = (4, 4, 2) of I = (2, 2, 4): shares 1 : 1 : e^-2.
    rest = 100 / (2 + np.exp(-2))

    counts = split_budget(np.array([1.0, 2, 2, 4]), budget=200, capacity=np.array([100] * 4))

    assert counts.tolist() == [100, int(rest), int(rest), int(rest * np.exp(-2))]
    assert counts.tolist() == [100, 46, 46, 6]


def test_the_budget_without_overflow_is_the_softmax():
    counts = split_budget(np.array([2.0, 2.0]), budget=101, capacity=np.array([100, 100]))

    assert counts.tolist() == [50, 50]


def test_a_layer_of_no_irrelevance_has_no_relevance():
    counts = split_budget(np.array([0.0, 1.0, 1.0]), budget=100, capacity=np.array([100] * 3))

    e = np.exp(-2)  # R = (0, 2, 2)
    assert counts.tolist() == [int(100 * e / (2 + e)), *[int(100 / (2 + e))] * 2]


def test_a_budget_over_everything_takes_what_there_is():
    counts = split_budget(np.array([1.0, 2.0]), budget=1000, capacity=np.array([10, 20]))

    assert counts.tolist() == [10, 20]


def test_the_smallest_weights_go_first_and_what_is_gone_is_not_counted():
    mask = smallest_removed(torch.tensor([[0.0, 3.0], [-1.0, 2.0]]), 2)

    assert mask.tolist() == [[False, True], [False, False]]


class Residual(nn.Module):
    """A stem and one block whose branch can be emptied; no padding, so that it is exact."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3)
        self.conv1 = nn.Conv2d(4, 4, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 1, groups=2)
        self.bn2 = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        branch = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return self.head(torch.relu(x + branch).mean((2, 3)))


IMAGES = torch.randn(24, 1, 6, 6, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def residual() -> fx.GraphModule:
    torch.manual_seed(1)
    model = Residual()
    for norm in (model.bn1, model.bn2):
        nn.init.normal_(norm.bias)
    model(IMAGES)
    return trace(model.eval(), IMAGES[:2])


def test_only_a_branch_beside_a_shortcut_is_bypassed(residual):
    operators = [feeding(site) for site in sites(residual)]

    assert [weight_node(o).target for o in operators if o] == [
        "stem.weight",
        "conv1.weight",
        "conv2.weight",
    ]
    assert [bypassed(residual, o) for o in operators if o] == [False, True, True]


@pytest.mark.parametrize("emptied", ["conv1", "conv2"])
def test_the_constant_of_an_emptied_layer_is_carried_on(residual, emptied):
    model = detached_copy(residual)
    with torch.no_grad():
        model.get_parameter(f"{emptied}.weight").zero_()
    expected = model(IMAGES)

    drop_emptied(model)
    prune_unused(model)

    torch.testing.assert_close(model(IMAGES), expected)
    assert expected.std() > 0
    assert [site.id for site in sites(model)] == ["#0", "#2"]
    assert "conv1.weight" not in dict(model.named_parameters())
    assert "conv2.weight" not in dict(model.named_parameters())


def test_a_layer_without_a_shortcut_is_never_emptied(residual):
    model = residual
    for _ in range(4):
        model = Nepenthe(zeta=1.0).reduce(evidence_of(model, IMAGES), 1)

    stem = feeding(sites(model)[0]) if sites(model) else None
    weights = stem and constant(model, weight_node(stem))
    assert weights is not None
    assert weights.count_nonzero() >= 4
    assert torch.isfinite(model(IMAGES)).all()


def test_masks_stay_through_training_and_a_second_round(residual):
    model = Nepenthe(zeta=0.3).reduce(evidence_of(residual, IMAGES), 1)
    gone = {n: ~m.bool() for n, m in model.named_buffers() if n.startswith("mask.")}
    assert any(m.any() for m in gone.values())

    set_training(model, True)
    schedule = Schedule(epochs=2, batch_size=8, learning_rate=0.1, weight_decay=0.0)
    train(model, Split(IMAGES, torch.arange(24) % 3), schedule, seed=0, step=lambda _: None)
    set_training(model, False)
    again = Nepenthe(zeta=0.3).reduce(evidence_of(model, IMAGES), 1)

    later = {n: ~m.bool() for n, m in again.named_buffers() if n.startswith("mask.")}
    for name in gone.keys() & later.keys():
        assert (later[name] | ~gone[name]).all()
    assert sum(int(m.sum()) for m in later.values()) > sum(int(m.sum()) for m in gone.values())


def test_a_baked_mask_leaves_an_ordinary_weight(residual):
    model = detached_copy(residual)
    conv = feeding(sites(model)[1])
    assert conv is not None
    mask_weight(model, conv, torch.rand(4, 4, 1, 1) < 0.5)
    model.recompile()
    expected = model(IMAGES)

    bake_masks(model)
    prune_unused(model)

    torch.testing.assert_close(model(IMAGES), expected)
    assert weight_node(conv).target == "conv1.weight"
    assert not [name for name, _ in model.named_buffers() if name.startswith("mask")]
