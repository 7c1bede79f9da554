import pytest
import torch
from torch import nn

from pipeline.datasets import Split
from pipeline.export import export
from pipeline.finetune import accuracy, predict
from pipeline.verify import verify
from profiles.target import find_target


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 3)).eval()
    split = Split(torch.randn(1100, 1, 6, 6), torch.randint(0, 3, (1100,)))
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    return model, split, export(model, split.images[:2], path)


@pytest.mark.parametrize("target", ["x86-cpu", "x86-openvino"])
def test_an_artifact_agrees_with_its_torch_model_on_every_image(exported, target):
    model, split, path = exported

    parity = verify(path, find_target(target), predict(model, split.images), split, tolerance=1e-4)

    assert parity.passed
    assert parity.images == 1100
    assert parity.max_relative < 1e-5
    assert parity.top1_agreement == 1.0
    assert parity.accuracy == pytest.approx(accuracy(model, split))


def test_one_wrong_logit_among_all_images_is_found(exported):
    model, split, path = exported
    expected = predict(model, split.images)
    expected[1049, 2] += 1e-3 * float(expected.abs().max())

    parity = verify(path, find_target("x86-cpu"), expected, split, tolerance=1e-4)

    assert not parity.passed
    assert parity.max_relative == pytest.approx(1e-3, rel=0.05)


def test_a_network_that_gives_nan_never_passes(exported, tmp_path):
    model, split, _ = exported
    spoilt = nn.Sequential(*model, nn.Linear(3, 3))
    with torch.no_grad():
        for parameter in spoilt[-1].parameters():
            parameter.fill_(float("nan"))
    path = export(spoilt.eval(), split.images[:2], tmp_path / "nan.onnx")

    parity = verify(
        path, find_target("x86-cpu"), predict(model, split.images), split, tolerance=1e-4
    )

    assert not parity.passed
