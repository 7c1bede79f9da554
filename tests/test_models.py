"""The built-in networks have the traits that plans rely on; a bad name is one clear line."""

import pytest
import torch
from torch import nn

from pipeline.models import BUILT_IN, build_model, digest
from runtimes.errors import InputError


def calls(model: nn.Module, kinds: tuple[type[nn.Module], ...], image: torch.Tensor) -> int:
    seen = []
    for module in model.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(lambda *_: seen.append(1))
    model(image)
    return len(seen)


@pytest.mark.parametrize(
    ("spec", "sites"), [("resnet18", 17), ("vgg8", 8), ("mobilenetv2-half", 27)]
)
def test_built_in_network_has_its_number_of_activation_call_sites(spec, sites):
    model = build_model(spec, num_classes=10, in_channels=1, seed=0)

    assert calls(model, (nn.ReLU, nn.ReLU6), torch.zeros(1, 1, 28, 28)) == sites


def test_mobilenet_has_thirteen_blocks():
    model = build_model("mobilenetv2-half", num_classes=10, in_channels=1, seed=0)

    assert sum(type(m).__name__ == "InvertedResidual" for m in model.modules()) == 13


@pytest.mark.parametrize("spec", list(BUILT_IN))
def test_built_in_network_takes_eight_by_eight_images(spec):
    model = build_model(spec, num_classes=7, in_channels=1, seed=0)

    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 7)


def test_one_relu_serves_both_call_sites_of_a_block():
    model = build_model("resnet18", num_classes=10, in_channels=1, seed=0)

    assert sum(isinstance(m, nn.ReLU) for m in model.modules()) == 9


def test_same_seed_gives_the_same_weights_and_another_seed_others():
    first, again, other = (
        build_model("vgg8", num_classes=10, in_channels=1, seed=seed).state_dict()
        for seed in (3, 3, 4)
    )

    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_building_leaves_the_random_state_of_the_caller_alone():
    before = torch.random.get_rng_state()

    build_model("vgg8", num_classes=10, in_channels=1, seed=5)

    assert torch.equal(before, torch.random.get_rng_state())


def test_width_is_an_option():
    model = build_model("resnet18", num_classes=10, in_channels=3, seed=0, options={"width": 8})

    assert model.get_parameter("conv1.weight").shape == (8, 3, 3, 3)


def test_torchvision_network_is_built_by_name():
    model = build_model("torchvision:resnet18", num_classes=5, in_channels=3, seed=0)

    assert model.get_parameter("fc.weight").shape == (5, 512)


@pytest.mark.parametrize(
    ("spec", "options", "says"),
    [
        ("resnet81", {}, "did you mean resnet18"),
        ("torchvision:resnet81", {}, "did you mean resnet18"),
        ("torchvision:resnet18", {}, "3 channels, the data set has 1"),
        ("resnet18", {"wdith": 8}, "takes no option 'wdith'; it takes: in_channels"),
        ("resnet18", {"width": -1}, r"failed when called with .*width=-1\)"),
        ("json:loads", {}, "'json:loads' needs s"),
        ("nowhere.at_all:make", {}, "no module 'nowhere.at_all'"),
        ("json:dumpz", {}, "has no 'dumpz'; it has:"),
        ("math:pi", {}, "is a float, not a function"),
        ("os:getcwd", {}, "gave a str, not a torch.nn.Module"),
        (":", {}, "write package.module:function"),
    ],
)
def test_a_model_that_cannot_be_built_says_what_could(spec, options, says):
    with pytest.raises(InputError, match=says):
        build_model(spec, num_classes=10, in_channels=1, seed=0, options=options)


def test_function_of_the_users_own_gets_only_what_it_takes(tmp_path):
    (tmp_path / "own_network.py").write_text(
        "from torch import nn\ndef make(num_classes, depth=1):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(9 * depth, num_classes))\n"
    )

    model = build_model(
        "own_network:make",
        num_classes=4,
        in_channels=1,
        seed=0,
        options={"depth": 2},
        folders=[tmp_path],
    )

    assert model.get_parameter("1.weight").shape == (4, 18)


def test_function_whose_arguments_are_missing_says_which(tmp_path):
    (tmp_path / "needy_network.py").write_text("def make(flavour): ...\n")

    with pytest.raises(InputError, match="needs flavour"):
        build_model("needy_network:make", num_classes=4, in_channels=1, seed=0, folders=[tmp_path])


def test_module_that_fails_at_import_is_an_input_error(tmp_path):
    (tmp_path / "broken_network.py").write_text("1 / 0\n")

    with pytest.raises(InputError, match="ZeroDivisionError"):
        build_model("broken_network:make", num_classes=4, in_channels=1, seed=0, folders=[tmp_path])


def test_function_that_fails_is_an_input_error(tmp_path):
    (tmp_path / "failing_network.py").write_text("def make(): raise KeyError('lost')\n")

    with pytest.raises(InputError, match=r"'failing_network:make' failed .* KeyError\('lost'\)"):
        build_model(
            "failing_network:make", num_classes=4, in_channels=1, seed=0, folders=[tmp_path]
        )


def test_callable_without_a_name_may_make_the_network(tmp_path):
    (tmp_path / "partial_network.py").write_text(
        "from functools import partial\nfrom torch import nn\nmake = partial(nn.Linear, 3, 4)\n"
    )

    model = build_model(
        "partial_network:make", num_classes=4, in_channels=1, seed=0, folders=[tmp_path]
    )

    assert isinstance(model, nn.Linear)


def test_digest_tells_weights_and_structure_apart():
    def digest_of(spec="vgg8", **changed):
        return digest(
            build_model(spec, **{"num_classes": 10, "in_channels": 1, "seed": 0, **changed})
        )

    assert digest_of() == digest_of()
    assert (
        len({digest_of(), digest_of(seed=1), digest_of(num_classes=9), digest_of("resnet18")}) == 4
    )


def test_digest_sees_an_activation_that_has_no_weights():
    assert digest(nn.Sequential(nn.ReLU())) != digest(nn.Sequential(nn.ReLU6()))
