"""Real architectures with random weights: everything linear, collapsed, certified, and on record.

The table of what merged and what was refused is `golden/collapse_zoo.json`; node names are left
out of it, because exporters number them differently. To write it anew after a deliberate change:
SHOAL_WRITE_GOLDEN=1 pytest tests/test_collapse_zoo.py
"""

from __future__ import annotations

import json
import logging
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn
from torchvision import models

from pipeline.collapse import Collapsed, certify, collapse
from pipeline.collapse.linearising import linearise
from pipeline.graphs.loading import load_model
from pipeline.mapping import depth_of, map_model

GOLDEN = Path(__file__).parent / "golden" / "collapse_zoo.json"


def torchvision(name: str) -> nn.Module:
    options = {"googlenet": {"aux_logits": False, "init_weights": False}}.get(name, {})
    return models.get_model(name, weights=None, num_classes=10, **options)


def vgg16_bn() -> nn.Module:
    """With a classifier for what 64 pixels leave, 2 x 2, instead of 7 x 7."""
    network = models.vgg16_bn(weights=None, num_classes=10)
    network.avgpool = nn.AdaptiveAvgPool2d(2)
    network.classifier[0] = nn.Linear(512 * 2 * 2, 4096)
    return network


def vit_b_16() -> nn.Module:
    return models.vit_b_16(weights=None, num_classes=10, image_size=64)


def transformer(name: str) -> nn.Module:
    transformers = pytest.importorskip(
        "transformers", reason="the zoo's language models need: pip install transformers"
    )
    if name == "DistilBert":
        sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 128}
    else:
        sizes = {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 128,
        }
    config = getattr(transformers, f"{name}Config")(
        vocab_size=60, max_position_embeddings=40, **sizes
    )
    return getattr(transformers, f"{name}ForSequenceClassification")(config)


ZOO: dict[str, tuple[Callable[[], nn.Module], int]] = {
    **{
        name: (lambda name=name: torchvision(name), size)
        for name, size in {
            "resnet18": 64,
            "resnet50": 64,
            "mobilenet_v2": 64,
            "mobilenet_v3_small": 64,
            "efficientnet_b0": 64,
            "regnet_x_400mf": 64,
            "convnext_tiny": 64,
            "googlenet": 64,
            "squeezenet1_1": 64,
            "densenet121": 64,
            "swin_t": 64,
        }.items()
    },
    "vgg16_bn": (vgg16_bn, 64),
    "vit_b_16": (vit_b_16, 64),
    **{
        f"{name.lower()}": (lambda name=name: transformer(name), 0)
        for name in ("Bert", "Roberta", "DistilBert")
    },
}


DYNAMIC = {"resnet18", "mobilenet_v2"}  # of the batch, which takes the exporter longer


def randomise(network: nn.Module) -> nn.Module:
    """Nothing is accidentally zero or one, as it is in a fresh network."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.3)
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(0.0, 0.3)
            assert module.running_var is not None
            module.running_var.uniform_(0.5, 1.5)
    for name, parameter in network.named_parameters():
        if "layer_scale" in name or not parameter.any():
            nn.init.uniform_(parameter, 0.05, 0.3)
    return network.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Callable[[str], ir.Model]:
    """The named network as ONNX, exported once."""
    folder = tmp_path_factory.mktemp("zoo")
    made: dict[str, ir.Model] = {}

    def export(name: str) -> ir.Model:
        if name not in made:
            build, size = ZOO[name]
            torch.manual_seed(0)
            network = randomise(build())
            path = folder / f"{name}.onnx"
            made[name] = _export(network, size, path, dynamic=name in DYNAMIC)
        return made[name]

    return export


@pytest.fixture(scope="module")
def collapsed(exported) -> Callable[[str], tuple[ir.Model, Collapsed]]:
    """The named network without any activation, and what it collapses to."""
    made: dict[str, tuple[ir.Model, Collapsed]] = {}

    def collapsed_once(name: str) -> tuple[ir.Model, Collapsed]:
        if name not in made:
            model = exported(name)
            sites = map_model(model).sites
            linear = linearise(model, sites, [site.id for site in sites])
            made[name] = linear, collapse(linear)
        return made[name]

    return collapsed_once


def _export(network: nn.Module, size: int, path: Path, *, dynamic: bool) -> ir.Model:
    batch = torch.export.Dim("batch", min=1)
    if size:
        inputs: tuple = (torch.randn(2 if dynamic else 1, 3, size, size),)
        shapes = ({0: batch},) if dynamic else None
    else:
        length = torch.export.Dim("length", min=2, max=30)
        ids = torch.randint(5, 60, (2, 9))
        inputs, shapes = (ids, torch.ones_like(ids)), ({0: batch, 1: length},) * 2
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own, several kinds per release
            program = torch.onnx.export(
                network, inputs, dynamo=True, opset_version=20, dynamic_shapes=shapes, verbose=False
            )
            assert program is not None
            program.save(path)
    finally:
        logging.disable(level)
    return load_model(path)


def without_names(reason: str, model: ir.Model) -> str:
    """The fact alone, numbers and names left out."""
    names = {node.name for node in model.graph} | {v.name for n in model.graph for v in n.outputs}
    words = []
    for index, word in enumerate(reason.split()):
        bare = word.rstrip(",")
        name = bare in names and (index == 0 or bare != "linear")  # also what values are called
        plain = name or ".." in bare or re.fullmatch(r"[\d,.]+", bare)
        words.append("_" if plain else word)
    return re.sub(r"(_ )+_", "_", " ".join(words))


def record(done: Collapsed, linear: ir.Model) -> dict:
    merges = Counter(
        f"{len(one.operators)} -> {one.op} {one.geometry} /{one.geometry.groups}, "
        f"border {one.border}{', shortcut' if one.absorbed_shortcut else ''}"
        for one in done.merges
    )
    reasons = Counter(without_names(kept.reason, done.model) for kept in done.refusals)
    return {
        "depth": [depth_of(linear), depth_of(done.model)],
        "macs": [map_model(linear).macs, map_model(done.model).macs],
        "merges": dict(sorted(merges.items())),
        "refusals": dict(sorted(reasons.items())),
    }


@pytest.mark.parametrize("name", ZOO)
def test_the_linear_network_collapses_with_a_certificate_and_as_recorded(name, collapsed):
    linear, done = collapsed(name)

    onnx.checker.check_model(ir.to_proto(done.model))
    certificate = certify(linear, done.model, seed=0, merges=done.merges)
    assert certificate.passed, certificate
    assert certificate.rms_relative <= 1e-5
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    found = record(done, linear)
    if os.environ.get("SHOAL_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps({**golden, name: found}, indent=1, sort_keys=True) + "\n")
        return
    assert found == golden[name]


def test_each_block_of_resnet18_becomes_one_convolution_and_its_add_disappears(exported):
    model = exported("resnet18")
    sites = map_model(model).sites
    linear = linearise(model, sites, [site.id for site in sites if site.segment])

    done = collapse(linear, merge="always", move_padding=True)

    kinds = Counter(node.op_type for node in done.model.graph)
    assert kinds["Conv"] == 1 + 8
    assert kinds["Add"] == 0
    assert certify(done.reference, done.model, seed=0, merges=done.merges).passed


def test_each_inverted_residual_becomes_one_dense_convolution(collapsed):
    _, done = collapsed("mobilenet_v2")

    blocks = [one for one in done.merges if one.geometry.rank]
    assert [len(one.operators) for one in blocks] == [3] * 16
    assert {(one.geometry.kernel, one.geometry.groups) for one in blocks} == {((3, 3), 1)}


@pytest.mark.parametrize(("name", "blocks"), [("swin_t", 12), ("vit_b_16", 12), ("bert", 2)])
def test_each_mlp_becomes_one_matrix(name, blocks, collapsed):
    _, done = collapsed(name)

    mlps = [one for one in done.merges if one.op == "MatMul"]
    assert [len(one.operators) for one in mlps] == [2] * blocks


def test_a_plan_may_name_matrices_as_torch_does(exported):
    model = exported("swin_t")
    segment = map_model(model).segments[1]
    linear = linearise(model, map_model(model).sites, segment.sites)

    done = collapse(linear, merge=[["features.1.1.mlp.0.weight", "features.1.1.mlp.3.weight"]])

    assert [one.operators for one in done.merges] == [tuple(o.node for o in segment.operators)]


def test_the_classifier_of_vgg16_becomes_one_matrix(collapsed):
    _, done = collapsed("vgg16_bn")

    assert [len(one.operators) for one in done.merges if one.op == "Gemm"] == [3]
    assert Counter(node.op_type for node in done.model.graph)["Gemm"] == 1
