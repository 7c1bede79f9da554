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
from collapsed_cases import MOVED, QUIET, collapse_it, write_residual
from onnx import TensorProto, helper, numpy_helper

from pipeline.collapse import Certificate, certify
from pipeline.collapse.certificate import difference
from pipeline.graphs.geometry import Geometry
from pipeline.verbs import collapsed
from pipeline.verbs.collapsed import CertificateFailed, Wish, collapse_file
from runtimes.errors import InputError


@pytest.fixture
def residual(tmp_path) -> Path:
    return write_residual(tmp_path)


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


def test_the_input_is_not_overwritten(residual):
    with pytest.raises(InputError, match="is the input itself"):
        collapse_file(residual, residual, Wish(), QUIET)


def test_a_folder_that_does_not_exist(residual):
    with pytest.raises(InputError, match="existing folder"):
        collapse_file(residual, residual.parent / "no" / "out.onnx", Wish(), QUIET)


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
