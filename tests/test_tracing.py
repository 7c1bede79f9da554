import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.edits.tracing import KINDS, reading, set_training, sites, trace
from runtimes.errors import InputError


class Twice(nn.Module):
    """One in-place ReLU called twice, and a functional GELU."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.mix = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.relu(self.norm(self.conv(x)))
        x = self.relu(self.mix(x))
        return functional.gelu(self.head(x.mean((2, 3))))


@pytest.fixture
def model() -> Twice:
    torch.manual_seed(0)
    model = Twice()
    model(torch.randn(8, 2, 5, 5))  # running statistics that are not the identity
    return model.eval()


def test_the_traced_model_computes_the_same(model):
    x = torch.randn(7, 2, 5, 5)

    torch.testing.assert_close(trace(model, x)(x), model(x), rtol=0, atol=0)


def test_a_module_called_twice_is_two_sites_and_a_function_is_one(model):
    found = sites(trace(model, torch.randn(2, 2, 5, 5)))

    assert [(s.id, s.kind) for s in found] == [
        ("relu#0", "relu"),
        ("relu#1", "relu"),
        ("#0", "gelu"),
    ]


def test_neurons_are_channels_after_a_convolution_and_units_after_a_linear_layer(model):
    assert [s.axis for s in sites(trace(model, torch.randn(2, 2, 5, 5)))] == [1, 1, -1]


def test_the_traced_model_shares_no_weights(model):
    traced = trace(model, torch.randn(2, 2, 5, 5))
    with torch.no_grad():
        for parameter in traced.parameters():
            parameter.zero_()

    assert all(p.abs().sum() > 0 for p in model.conv.parameters())


def test_in_training_it_is_the_model_in_training(model):
    x = torch.randn(6, 2, 5, 5)
    traced = trace(model, x)
    set_training(traced, True)
    model.train()

    torch.testing.assert_close(traced(x), model(x))
    assert torch.equal(traced.get_buffer("norm.running_mean"), model.norm.running_mean)


def test_back_in_evaluation_its_statistics_stay(model):
    x = torch.randn(6, 2, 5, 5)
    traced = trace(model, x)
    set_training(traced, True)
    set_training(traced, False)
    before = traced.get_buffer("norm.running_mean").clone()
    traced(x)

    assert torch.equal(traced.get_buffer("norm.running_mean"), before)


def test_the_model_is_left_as_it_was(model):
    model.train()
    trace(model, torch.randn(2, 2, 5, 5))

    assert model.training


def test_the_operator_that_reads_a_weight_is_found(model):
    traced = trace(model, torch.randn(2, 2, 5, 5))

    assert reading(traced, "mix.weight").target is torch.ops.aten.conv2d.default
    with pytest.raises(KeyError, match=r"nothing\.weight"):
        reading(traced, "nothing.weight")


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (nn.ReLU6(), "relu6"),
        (nn.LeakyReLU(0.1), "leaky_relu"),
        (nn.PReLU(4), "prelu"),
        (nn.SiLU(), "silu"),
        (nn.Hardswish(), "hardswish"),
        (nn.Hardsigmoid(), "hardsigmoid"),
        (nn.ELU(), "elu"),
        (nn.Tanh(), "tanh"),
        (nn.Softplus(), "softplus"),
        (nn.Mish(), "mish"),
    ],
)
def test_every_kind_of_activation_is_seen(module, kind):
    traced = trace(nn.Sequential(nn.Conv2d(2, 4, 1), module), torch.randn(2, 2, 3, 3))

    assert [(s.id, s.kind) for s in sites(traced)] == [("1#0", kind)]
    assert kind in KINDS.values()


def test_control_flow_on_values_is_refused_with_the_reason():
    class Branching(nn.Module):
        def forward(self, x):
            return x if float(x.sum()) > 0 else -x

    with pytest.raises(InputError, match="cannot trace Branching"):
        trace(Branching(), torch.randn(2, 3))


def test_a_model_of_two_outputs_is_refused():
    class Two(nn.Module):
        def forward(self, x):
            return x, x + 1

    with pytest.raises(InputError, match="one tensor"):
        trace(Two(), torch.randn(2, 3))
