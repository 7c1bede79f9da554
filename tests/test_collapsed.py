"""`shoal collapse` from file to file: the document, the certificate, and nothing half-written."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline import collapsed
from pipeline.collapse import Certificate, certify
from pipeline.collapse.certificate import difference
from pipeline.collapse.linearising import StandIn, linearise
from pipeline.collapsed import CertificateFailed, CollapseDocument, Wish, collapse_file
from pipeline.geometry import Geometry
from pipeline.loading import load_model, normalise
from pipeline.mapping import map_model
from pipeline.progress import Reporter
from runtimes.errors import InputError

QUIET = Reporter(quiet=True)


@pytest.fixture
def residual(tmp_path) -> Path:
    """Two residual blocks and a head: 3x3, ReLU, 3x3, shortcut, ReLU; dynamic batch."""
    generator = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for block in range(2):
        for half in ("a", "b"):
            weight = generator.standard_normal((4, 4, 3, 3)).astype(np.float32) / 6
            weights.append(numpy_helper.from_array(weight, f"w{block}{half}"))
        names = {key: f"{key}{block}" for key in ("h", "r", "k", "s", "y")}
        for op, inputs, output in (
            ("Conv", [value, f"w{block}a"], names["h"]),
            ("Relu", [names["h"]], names["r"]),
            ("Conv", [names["r"], f"w{block}b"], names["k"]),
            ("Add", [names["k"], value], names["s"]),
            ("Relu", [names["s"]], names["y"]),
        ):
            node = helper.make_node(op, inputs, [output], name=f"{op.lower()}_{output}")
            if op == "Conv":
                node.attribute.append(helper.make_attribute("pads", [1, 1, 1, 1]))
            nodes.append(node)
        value = names["y"]
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, 12, 12])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["n", 4, 12, 12])],
        weights,
    )
    path = tmp_path / "in.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path
    )
    return path


INNER = ("relu_r0#0", "relu_r1#0")
MOVED = Wish(linearise=INNER, merge="always", move_padding=True)


def collapse_it(path: Path, wish: Wish) -> CollapseDocument:
    return collapse_file(path, path.with_name("out.onnx"), wish, QUIET)


def test_the_document_says_what_became_of_every_block(residual):
    document = collapse_it(residual, MOVED)

    assert [row.operators for row in document.merges] == [
        ("conv_h0", "conv_k0"),
        ("conv_h1", "conv_k1"),
    ]
    assert {(row.result.kernel, row.border) for row in document.merges} == {((5, 5), "moved")}
    assert (document.depth_before, document.depth_after) == (4, 2)
    assert document.certificate.passed
    assert document.after.macs == document.macs_after
    assert document.after.nodes < document.before.nodes


def test_what_moving_the_padding_changed_is_reported_apart(residual):
    certificate = collapse_it(residual, MOVED).certificate

    assert certificate.rms_relative < 1e-5
    assert certificate.moved_padding is not None
    assert certificate.moved_padding.rms_relative > 1e-3
    border = certificate.moved_padding.border_rms_relative
    assert border is not None
    assert border > certificate.moved_padding.rms_relative


def test_the_certificate_is_beside_the_output_and_inside(residual):
    document = collapse_it(residual, MOVED)

    out = Path(document.out)
    beside = json.loads(out.with_name("out.onnx.certificate.json").read_text())
    inside = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    digest = hashlib.sha256(residual.read_bytes()).hexdigest()
    assert beside["source_sha256"] == inside["shoal.source_sha256"] == digest
    assert json.loads(inside["shoal.certificate"]) == beside["certificate"]
    assert inside["shoal.version"]


def test_the_output_runs_on_another_batch(residual):
    document = collapse_it(residual, MOVED)

    session = onnxruntime.InferenceSession(document.out, providers=["CPUExecutionProvider"])

    (output,) = session.run(None, {"x": np.ones((5, 4, 12, 12), np.float32)})
    assert np.asarray(output).shape == (5, 4, 12, 12)


def test_a_large_output_keeps_its_weights_in_a_file_beside_it(residual, monkeypatch):
    monkeypatch.setattr(collapsed, "LARGEST_SINGLE_FILE_BYTES", 100)

    document = collapse_it(residual, MOVED)

    assert residual.with_name("out.onnx.data").stat().st_size >= 2 * 4 * 4 * 25 * 4
    onnx.checker.check_model(document.out)


def test_half_precision_passes_with_its_own_tolerance(residual):
    proto = onnx.load(residual)
    for tensor in proto.graph.initializer:
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(proto, residual)

    document = collapse_it(residual, MOVED)

    assert len(document.merges) == 2
    assert document.certificate.tolerance == 5e-3
    assert document.certificate.rms_relative < 5e-3


def test_by_default_nothing_is_linearised_and_every_reason_is_given(residual):
    document = collapse_it(residual, Wish())

    assert document.merges == ()
    reasons = {row.operators: row.reason for row in document.refusals}
    assert reasons["conv_h0",] == "Relu relu_r0 follows, which is not linear per channel"


def test_a_failed_certificate_writes_nothing(residual, monkeypatch):
    def shifted(before: ir.Model, after: ir.Model, **how) -> Certificate:
        weight = next(v for v in after.graph.initializers.values() if len(v.shape or ()) == 4)
        assert weight.const_value is not None
        weight.const_value = ir.tensor(np.roll(weight.const_value.numpy(), 1, axis=-1))
        return certify(before, after, **how)

    monkeypatch.setattr(collapsed, "certify", shifted)

    with pytest.raises(CertificateFailed, match="nothing was written"):
        collapse_it(residual, MOVED)

    assert [path.name for path in residual.parent.iterdir()] == ["in.onnx"]


def test_an_unknown_site_is_named_with_those_there_are(residual):
    with pytest.raises(InputError, match=r"no activation named relu7; there are: relu_r0#0, "):
        collapse_it(residual, Wish(linearise=("relu7",)))


def test_the_input_is_not_overwritten(residual):
    with pytest.raises(InputError, match="is the input itself"):
        collapse_file(residual, residual, Wish(), QUIET)


def test_a_folder_that_does_not_exist(residual):
    with pytest.raises(InputError, match="existing folder"):
        collapse_file(residual, residual.parent / "no" / "out.onnx", Wish(), QUIET)


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


def test_an_operator_that_nothing_can_run_is_the_input_s_fault(residual):
    proto = onnx.load(residual)
    node = helper.make_node("Strange", [proto.graph.node[-1].output[0]], ["z"], domain="nowhere")
    proto.graph.node.append(node)
    proto.graph.output[0].name = "z"
    proto.opset_import.append(helper.make_opsetid("nowhere", 1))
    onnx.save(proto, residual)

    with pytest.raises(InputError, match="cannot load the network"):
        collapse_it(residual, MOVED)


def test_the_difference_sees_a_border_that_a_large_map_hides():
    want = np.ones((1, 1, 100, 100))
    got = want.copy()
    got[..., 0, :] = 1.1
    geometry = Geometry((3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 1, 1, 1)

    found = difference("y", got, want, geometry)

    assert found.rms_relative == 0.0
    assert found.max_abs == pytest.approx(0.1)
    assert found.border_rms_relative == pytest.approx(0.1 * (100 / 396) ** 0.5)


def test_the_command_prints_one_document_and_nothing_else(residual):
    command = [sys.executable, "-m", "pipeline", "collapse", str(residual)]
    command += [str(residual.with_name("out.onnx")), "--linearise", "all", "--json"]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["schema"] == "shoal.collapse/1"


def test_the_command_exits_2_on_a_file_of_another_kind(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_text("hello")
    command = [sys.executable, "-m", "pipeline", "collapse", str(path), str(tmp_path / "o.onnx")]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "o.onnx").exists()
