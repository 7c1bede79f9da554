"""Sites, segments and options of real exports, and the networks that plans would give."""

from __future__ import annotations

import json
import logging
import warnings

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from pydantic import TypeAdapter
from torch import nn
from torch.nn import functional
from torchvision import models

from pipeline.graphs.building import build
from pipeline.graphs.loading import load_model, normalise
from pipeline.mapping import Map, depth_of, map_model
from pipeline.verbs.mapped import MapDocument, document


def export(network: nn.Module, image: torch.Tensor, path, *, dynamic: bool) -> ir.Model:
    shapes = ({0: torch.export.Dim("batch", min=1)},) if dynamic else None
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own
            program = torch.onnx.export(
                network.eval(), (image,), dynamo=True, dynamic_shapes=shapes, verbose=False
            )
            assert program is not None
            program.save(path)
    finally:
        logging.disable(level)
    return load_model(path)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory) -> ir.Model:
    path = tmp_path_factory.mktemp("map") / "resnet18.onnx"
    network = models.resnet18(weights=None, num_classes=10)
    return export(network, torch.randn(2, 3, 64, 64), path, dynamic=True)


@pytest.fixture(scope="module")
def found(resnet) -> Map:
    return map_model(resnet)


def test_one_module_called_twice_is_two_sites(found):
    ids = [site.id for site in found.sites]

    assert len(ids) == len(set(ids)) == 17
    assert {"layer1.0.relu#0", "layer1.0.relu#1"} <= set(ids)


def test_every_basic_block_is_a_segment_with_its_shortcut(found):
    names = [segment.id for segment in found.segments]
    kinds = [segment.shortcut.kind for segment in found.segments if segment.shortcut]

    assert names == [f"layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1)]
    assert kinds.count("projection") == 3
    assert kinds.count("identity") == 5
    assert all(segment.gaps == (f"{segment.id}.relu#0",) for segment in found.segments)


def test_a_block_can_merge_and_be_refitted(found):
    options = {option.id: option for option in found.options}

    merged = options["layer2.0/merge-7x7@0-1+shortcut"]
    assert merged.geometry.strides == (2, 2)
    assert merged.geometry.pads == (3, 3, 3, 3)
    assert merged.border == "moved"
    assert merged.macs_before == found.segments[2].macs
    assert options["layer2.0/refit-3x3@0-1+shortcut"].macs * 49 == merged.macs * 9


def test_two_blocks_in_a_row_can_be_refitted_to_one_kernel_no_narrower_than_its_stride(found):
    kernels = {run.id: [option.kernel for option in run.options] for run in found.runs}

    assert len(found.runs) == 7
    assert kernels["layer1.0..layer1.1"] == [(3, 3), (1, 1)]
    assert kernels["layer1.1..layer2.0"] == kernels["layer4.0..layer4.1"] == [(3, 3)]
    (across,) = [o for o in found.options if o.id.startswith("layer2.0..layer2.1")]
    assert across.sites == ("layer2.0.relu#0", "layer2.0.relu#1", "layer2.1.relu#0")
    assert (across.geometry.strides, across.geometry.pads) == ((2, 2), (1, 1, 1, 1))
    assert len(across.replaces) == 5


def test_options_are_in_the_order_of_the_graph(found):
    order = {operator.node: index for index, operator in enumerate(found.operators)}
    begins = [min(order[name] for name in option.replaces) for option in found.options]

    assert begins == sorted(begins)


def test_sites_that_nothing_removes_have_a_reason_that_names_a_node(found):
    reasons = {refusal.site: refusal.reason for refusal in found.refusals}

    assert set(reasons) == {"relu#0", "layer4.1.relu#1"}
    assert "MaxPool node_max_pool2d follows" in reasons["relu#0"]
    assert "Add node_add" in reasons["layer4.1.relu#1"]


def test_macs_and_depth_are_those_of_the_network(found):
    assert found.depth == 18
    convolutions = sum(operator.macs for operator in found.operators if operator.op == "Conv")
    assert found.macs == convolutions + 512 * 10


def test_the_document_has_the_fields_that_the_command_line_promises(found):
    text = TypeAdapter(MapDocument).dump_json(document("resnet18.onnx", found))

    shown = json.loads(text)
    assert shown["schema"] == "shoal.map/1"
    assert shown["depth"] == 18
    assert shown["sites"][1] | {"id": "layer1.0.relu#0", "segment": "layer1.0"} == shown["sites"][1]
    segment = shown["segments"][0]
    assert segment["sites"] == ["layer1.0.relu#0"]
    assert segment["operators"][0]["weight"] == "layer1.0.conv1.weight"
    assert [option["kernel"] for option in segment["options"]] == [[5, 5], [3, 3], [1, 1], []]
    assert segment["macs_before"] == segment["options"][0]["macs_before"]
    assert shown["runs"][0]["through"] == ["layer1.0", "layer1.1"]
    assert set(shown["runs"][0]) == {"id", *segment} - {"shortcut"} | {"through"}
    assert set(shown["refusals"][0]) == {"site", "reason"}


def run(model: ir.Model, image: np.ndarray) -> np.ndarray:
    content = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: image})[0])


@pytest.mark.parametrize("kind", ["merge", "refit"])
def test_a_planned_network_runs_with_the_same_output_shape(resnet, found, kind):
    chosen = [
        next(option for option in segment.options if option.kind == kind)
        for segment in found.segments
    ]

    built = build(resnet, found, chosen, seed=0)

    onnx.checker.check_model(ir.to_proto(built), full_check=True)
    assert depth_of(built) == 10
    assert sum(node.op_type == "Add" for node in built.graph) == 0
    output = run(built, np.random.default_rng(0).standard_normal((3, 3, 64, 64), np.float32))
    assert output.shape == (3, 10)
    assert np.isfinite(output).all()


def test_building_leaves_the_source_alone(resnet, found):
    before = len(resnet.graph), len(resnet.graph.initializers)

    build(resnet, found, [found.options[0]], seed=0)

    assert (len(resnet.graph), len(resnet.graph.initializers)) == before


def test_macs_of_an_option_are_those_of_the_built_network(resnet, found):
    for option in found.options:
        built = map_model(build(resnet, found, [option], seed=0))

        assert built.macs == found.macs - option.macs_before + option.macs


def test_overlapping_options_are_a_mistake_of_ours(resnet, found):
    with pytest.raises(ValueError, match="replace the same operators"):
        build(resnet, found, found.options[:2], seed=0)


class Branches(nn.Module):
    """Functional calls, a shared module, and an inverted residual."""

    def __init__(self):
        super().__init__()
        self.widen = nn.Conv2d(4, 24, 1)
        self.deep = nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.narrow = nn.Conv2d(24, 4, 1)
        self.last = nn.Conv2d(4, 8, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        y = functional.silu(self.widen(x))
        y = functional.hardswish(self.deep(y))
        x = x + self.narrow(y)
        x = functional.gelu(self.last(x), approximate="tanh")
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module", params=[True, False], ids=["dynamic", "static"])
def branches(request, tmp_path_factory) -> ir.Model:
    path = tmp_path_factory.mktemp("branches") / "b.onnx"
    return export(Branches(), torch.randn(2, 4, 9, 9), path, dynamic=request.param)


def test_functional_calls_are_counted_in_their_module(branches):
    found = map_model(branches)

    kinds = {site.id: site.kind for site in found.sites}
    assert kinds == {"#0": "silu", "#1": "hard_swish", "#2": "gelu_tanh"}
    assert [site.channels for site in found.sites] == [24, 24, 8]


def test_every_span_of_a_longer_chain_is_an_option(branches):
    found = map_model(branches)

    spans = {(o.first, o.last, o.kind) for o in found.segments[0].options}
    assert spans >= {(0, 1, "merge"), (1, 2, "merge"), (0, 2, "merge"), (0, 2, "refit")}
    whole = {o.kind: o for o in found.segments[0].options if o.last - o.first == 2}
    assert {kind: o.absorbs_shortcut for kind, o in whole.items()} == {
        "merge": True,
        "refit": True,
        "drop": False,
    }
    assert found.segments[0].closes(whole["drop"])


def test_a_pointwise_convolution_merges_through_the_mean(branches):
    found = map_model(branches)
    option = found.segments[1].options[0]

    built = build(branches, found, [option], seed=0)

    assert option.pooled
    assert run(built, np.ones((2, 4, 9, 9), np.float32)).shape == (2, 3)
    assert [node.op_type for node in built.graph].count("Gemm") == 1


ACTIVATIONS = {
    "relu": nn.ReLU(),
    "relu6": nn.ReLU6(),
    "clip": nn.Hardtanh(-2.0, 2.0),
    "leaky_relu": nn.LeakyReLU(0.1),
    "prelu": nn.PReLU(),
    "gelu": nn.GELU(),
    "gelu_tanh": nn.GELU(approximate="tanh"),
    "silu": nn.SiLU(),
    "hard_swish": nn.Hardswish(),
    "hard_sigmoid": nn.Hardsigmoid(),
    "elu": nn.ELU(),
    "tanh": nn.Tanh(),
    "softplus": nn.Softplus(),
    "mish": nn.Mish(),
}


def test_every_activation_is_found_as_exported_for_an_old_and_a_new_opset(tmp_path):
    layers = [layer for kind in ACTIVATIONS for layer in (nn.Linear(4, 4), ACTIVATIONS[kind])]
    for opset in (18, 20):
        path = tmp_path / f"{opset}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own
            program = torch.onnx.export(
                nn.Sequential(*layers).eval(),
                (torch.randn(2, 4),),
                dynamo=True,
                opset_version=opset,
                verbose=False,
            )
        assert program is not None
        program.save(path)

        found = map_model(load_model(path))

        assert [site.kind for site in found.sites] == list(ACTIVATIONS)
        assert found.refusals[0].site == found.sites[-1].id


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("s = Sigmoid (x) y = Mul (s, x)", "silu"),
        ("d = Div (x, r) e = Erf (d) a = Add (e, one) h = Mul (x, half) y = Mul (h, a)", "gelu"),
        ("s = Softplus (x) t = Tanh (s) y = Mul (x, t)", "mish"),
        (
            "a = Add (x, three) c = Clip (a, zero, six) m = Mul (x, c) y = Div (m, six)",
            "hard_swish",
        ),
    ],
)
def test_a_decomposition_is_one_site_whatever_its_spelling(text, kind):
    numbers = {"r": 2**0.5, "one": 1.0, "half": 0.5, "three": 3.0, "zero": 0.0, "six": 6.0}
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 18]> g (float[2,4] x) => (float[2,4] y) {{ {text} }}'
    )
    for name, value in numbers.items():
        proto.graph.initializer.append(
            onnx.numpy_helper.from_array(np.array(value, dtype=np.float32), name)
        )

    sites = map_model(normalise(ir.from_proto(proto))).sites

    assert [site.kind for site in sites] == [kind]
    assert len(sites[0].nodes) == len(proto.graph.node)
