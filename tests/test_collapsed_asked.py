"""What `shoal collapse` can be asked: sites, stand-ins, a plan; and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from collapsed_cases import INNER, collapse_it, write_residual
from onnx import numpy_helper

from pipeline.collapse import certify
from pipeline.collapse.linearising import StandIn, linearise
from pipeline.graphs.loading import load_model, normalise
from pipeline.mapping import map_model
from pipeline.verbs.collapsed import Wish
from runtimes.errors import InputError


@pytest.fixture
def residual(tmp_path) -> Path:
    return write_residual(tmp_path)


def test_by_default_nothing_is_linearised_and_every_reason_is_given(residual):
    document = collapse_it(residual, Wish())

    assert document.merges == ()
    reasons = {row.operators: row.reason for row in document.refusals}
    assert reasons["conv_h0",] == "Relu relu_r0 follows, which is not linear per channel"


def test_an_unknown_site_is_named_with_those_there_are(residual):
    with pytest.raises(InputError, match=r"no activation named relu7; there are: relu_r0#0, "):
        collapse_it(residual, Wish(linearise=("relu7",)))


def test_a_plan_is_carried_out_and_nothing_else(residual):
    option = map_model(load_model(residual)).segments[1].options[0]
    plan = residual.with_name("plan.json")
    plan.write_text(json.dumps({"options": [option.id]}))

    document = collapse_it(residual, Wish(merge=str(plan), move_padding=True))

    assert [row.operators for row in document.merges] == [("conv_h1", "conv_k1")]
    assert document.linearised == ("relu_r1#0",)


@pytest.mark.parametrize(
    ("plan", "needle"),
    [
        ('{"options": ["nowhere/merge-5x5@0-1"]}', "which this model does not have"),
        ('{"options": ["@0"]', "is not JSON"),
        ('{"merges": "all"}', "is not a plan"),
        ('{"merges": [["w0a", "w1b"]]}', "not one linear chain"),
    ],
)
def test_a_plan_that_cannot_be_carried_out(residual, plan, needle):
    path = residual.with_name("plan.json")
    path.write_text(plan)

    with pytest.raises(InputError, match=needle):
        collapse_it(residual, Wish(merge=str(path), move_padding=True))


def test_a_refit_is_no_exact_merge(residual):
    found = map_model(load_model(residual))
    refit = next(option for option in found.options if option.kind == "refit")
    path = residual.with_name("plan.json")
    path.write_text(json.dumps({"options": [{"id": refit.id}]}))

    with pytest.raises(InputError, match="has to be trained"):
        collapse_it(residual, Wish(merge=str(path)))


def test_stand_ins_of_a_file_take_the_place_of_the_identity(residual):
    path = residual.with_name("stand-ins.json")
    path.write_text(json.dumps({INNER[0]: {"scale": [0.5, 0.6, 0.7, 0.8], "shift": 0.1}}))
    model = load_model(residual)
    sites = map_model(model).sites
    stand_in = StandIn(np.array([0.5, 0.6, 0.7, 0.8]), np.array([0.1]))

    document = collapse_it(residual, Wish(linearise=INNER[:1], stand_ins=path))

    expected = linearise(model, sites, INNER[:1], {INNER[0]: stand_in})
    assert certify(expected, load_model(document.out), seed=3).passed
    assert not certify(linearise(model, sites, INNER[:1]), load_model(document.out), seed=3).passed


def test_a_stand_in_of_the_wrong_length(residual):
    path = residual.with_name("stand-ins.json")
    path.write_text(json.dumps({INNER[0]: {"scale": [1.0, 2.0]}}))

    with pytest.raises(InputError, match="has 2 numbers as scale; the site has 4 channels"):
        collapse_it(residual, Wish(linearise=INNER[:1], stand_ins=path))


KINDS = (
    "Relu", "Clip", "LeakyRelu", "Gelu", "HardSwish", "HardSigmoid", "Elu", "Tanh", "Softplus",
    "Mish", "PRelu", "SiLU",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_activation_can_be_linearised(kind):
    call = {"PRelu": "PRelu (h, s)", "Clip": "Clip (h, l)", "SiLU": "Mul (h, g)"}
    text = f"k = {call.get(kind, f'{kind} (h)')}"
    text = f"g = Sigmoid (h) {text}" if kind == "SiLU" else text
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 20]> g (float[2,3] x) => (float[2,5] y)'
        f"{{ h = MatMul (x, w) {text} y = MatMul (k, u) }}"
    )
    arrays = {"w": np.ones((3, 4)), "u": np.ones((4, 5)), "s": np.ones(4) / 4, "l": np.array(-1.0)}
    for name, array in arrays.items():
        proto.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    model = normalise(ir.from_proto(proto))
    sites = map_model(model).sites

    linear = linearise(model, sites, [site.id for site in sites])

    assert [node.op_type for node in linear.graph] == ["MatMul", "Identity", "MatMul"]
