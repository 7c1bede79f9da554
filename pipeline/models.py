"""Networks by name: built in, torchvision's, transformers', or a function of the user's own.

The built-in ones are small enough to be trained in minutes on two cores, and keep the traits that
make the published ones hard: one activation module called twice, shortcuts, depthwise layers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from pipeline.datasets import cache_folder
from pipeline.networks.packaged import minilm_folder
from pipeline.networks.references import call, resolve
from pipeline.reporting.progress import SILENT, Reporter
from runtimes.errors import InputError


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; one `relu` serves both call-sites."""

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        inner = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(inner)) + shortcut)


class ResNet18(nn.Module):
    """ResNet-18 for small images: stem 3x3 stride 2, no max-pool, widths w, 2w, 4w, 8w."""

    def __init__(self, *, num_classes: int, in_channels: int, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.layer1 = nn.Sequential(BasicBlock(width, width, 1), BasicBlock(width, width, 1))
        self.layer2 = _stage(width, 2 * width)
        self.layer3 = _stage(2 * width, 4 * width)
        self.layer4 = _stage(4 * width, 8 * width)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def _stage(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(in_channels, channels, 2), BasicBlock(channels, channels, 1))


class Vgg8(nn.Module):
    """Eight convolutions in a row with a max-pool after every second but the last."""

    def __init__(self, *, num_classes: int, in_channels: int, width: int):
        super().__init__()
        widths = [width, width, 2 * width, 2 * width] + 4 * [4 * width]
        layers: list[nn.Module] = []
        for index, channels in enumerate(widths):
            before = in_channels if index == 0 else widths[index - 1]
            layers += [
                nn.Conv2d(before, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
            if index in (1, 3, 5):
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise 3x3, project 1x1; the shortcut where the shape allows it."""

    def __init__(self, in_channels: int, channels: int, *, stride: int, expansion: int):
        super().__init__()
        hidden = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(_conv_bn_relu6(in_channels, hidden, kernel=1))
        layers += [
            _conv_bn_relu6(hidden, hidden, kernel=3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        ]
        self.conv = nn.Sequential(*layers)
        self.has_shortcut = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.has_shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNetV2's first five stages for small images: 13 blocks, 27 ReLU6 call-sites."""

    def __init__(self, *, num_classes: int, in_channels: int, width: float):
        super().__init__()
        channels = _round_to_8(32 * width)
        head = _round_to_8(640 * width)
        layers: list[nn.Module] = [_conv_bn_relu6(in_channels, channels, kernel=3, stride=2)]
        for expansion, out, blocks, stride in (
            (1, 16, 1, 1),
            (6, 24, 2, 1),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
        ):
            for block in range(blocks):
                after = _round_to_8(out * width)
                layers.append(
                    InvertedResidual(
                        channels, after, stride=stride if block == 0 else 1, expansion=expansion
                    )
                )
                channels = after
        layers.append(_conv_bn_relu6(channels, head, kernel=1))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(head, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def _conv_bn_relu6(
    in_channels: int, channels: int, *, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(
            in_channels, channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False
        ),
        nn.BatchNorm2d(channels),
        nn.ReLU6(),
    )


def _round_to_8(channels: float) -> int:
    return max(8, int(channels + 4) // 8 * 8)


def resnet18(*, num_classes: int, in_channels: int, width: int = 16) -> nn.Module:
    return ResNet18(num_classes=num_classes, in_channels=in_channels, width=width)


def vgg8(*, num_classes: int, in_channels: int, width: int = 16) -> nn.Module:
    return Vgg8(num_classes=num_classes, in_channels=in_channels, width=width)


def mobilenetv2_half(*, num_classes: int, in_channels: int, width: float = 0.5) -> nn.Module:
    return MobileNetV2(num_classes=num_classes, in_channels=in_channels, width=width)


BUILT_IN = {"resnet18": resnet18, "vgg8": vgg8, "mobilenetv2-half": mobilenetv2_half}
MINILM, TRANSFORMERS = "minilm", "transformers:"


def build_model(
    spec: str,
    *,
    num_classes: int,
    in_channels: int | None,
    seed: int,
    options: Mapping[str, Any] | None = None,
    folders: Sequence[Path] = (),
    vocabulary: int | None = None,
    reporter: Reporter = SILENT,
) -> nn.Module:
    """A freshly initialised network in eval mode; the caller's random state is left alone.

    `options` are further arguments of the constructor; `folders` are searched, after the working
    folder, for a `package.module:function`. Images have `in_channels`, texts a `vocabulary`.
    """
    takes_text = spec == MINILM or spec.startswith(TRANSFORMERS)
    offered: dict[str, Any] = {"num_classes": num_classes}
    if in_channels is not None:
        offered["in_channels"] = in_channels
    if vocabulary is not None:
        offered["vocab_size"] = vocabulary
    _check_kind(spec, takes_text, in_channels)
    given = dict(options or {})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if spec in BUILT_IN:
            model = call(spec, BUILT_IN[spec], offered=offered, options=given)
        elif takes_text:
            model = _of_text(spec, offered, given, reporter)
        elif spec.startswith("torchvision:"):
            model = _from_torchvision(spec.removeprefix("torchvision:"), offered, given)
        elif ":" in spec:
            model = call(spec, resolve(spec, folders=folders), offered=offered, options=given)
        else:
            raise InputError(
                f"no model named {spec!r}{_nearest(spec, [*BUILT_IN, MINILM])}; there are: "
                f"{', '.join([*BUILT_IN, MINILM])}, torchvision:NAME, transformers:NAME and "
                "package.module:function"
            )
    if not isinstance(model, nn.Module):
        raise InputError(f"model {spec!r} gave a {type(model).__name__}, not a torch.nn.Module")
    return model.eval()


def _check_kind(spec: str, takes_text: bool, in_channels: int | None) -> None:
    if takes_text and in_channels is not None:
        raise InputError(
            f"model {spec!r} takes text, and the data are images: choose movie-reviews or texts of "
            "your own as [data], or another model"
        )
    takes_images = spec in BUILT_IN or spec.startswith("torchvision:")
    if takes_images and in_channels is None:
        raise InputError(
            f"model {spec!r} takes images, and the data are text: use {MINILM}, {TRANSFORMERS}NAME "
            "or package.module:function"
        )


def _of_text(
    spec: str, offered: Mapping[str, Any], given: Mapping[str, Any], reporter: Reporter
) -> nn.Module:
    try:
        text = import_module("pipeline.networks.text_models")
    except ModuleNotFoundError as e:
        raise InputError(
            f"model {spec!r} needs the {e.name!r} package: pip install '.[text]'"
        ) from e
    if spec == MINILM:
        folder = minilm_folder(cache=cache_folder(), reporter=reporter)
        return call(spec, text.pretrained, offered={**offered, "folder": folder}, options=given)
    name = spec.removeprefix(TRANSFORMERS)
    return text.from_config(name, **{**offered, **given})


def digest(model: nn.Module) -> str:
    """Of a network's modules and values: code of the user's own may change behind one name."""
    found = hashlib.sha256(repr(model).encode())
    for name, value in model.state_dict().items():
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _from_torchvision(name: str, offered: Mapping[str, Any], given: Mapping[str, Any]) -> nn.Module:
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise InputError(
            f"torchvision has no classification model {name!r}{_nearest(name, names)}; "
            "torchvision.models.list_models() has them all"
        )
    if offered["in_channels"] != 3:
        raise InputError(
            f"torchvision:{name} takes images of 3 channels, the data set has "
            f"{offered['in_channels']}: use a built-in model, or a package.module:function"
        )
    try:
        return torchvision.models.get_model(
            name, **{"num_classes": offered["num_classes"], **given}
        )
    except (TypeError, ValueError) as e:
        raise InputError(f"torchvision:{name} refuses the options {dict(given)}: {e}") from e


def _nearest(name: str, names: Sequence[str] | Mapping[str, Any]) -> str:
    close = get_close_matches(name, list(names), n=3)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
