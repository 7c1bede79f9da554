"""Files that are not what they say: one clear line, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.graphs.loading import load_model
from pipeline.reporting.progress import Reporter
from pipeline.verbs.collapsed import Wish, collapse_file
from runtimes.errors import InputError

WEIGHT = np.ones((3, 3, 1, 1), dtype=np.float32)


def pair(weight: np.ndarray = WEIGHT, opset: int = 20, shape=(1, 3, 4, 4)) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["h"]), helper.make_node("Conv", ["h", "w"], ["y"])],
        "pair",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "h", "w"])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def refused(path: Path, needle: str) -> None:
    out = path.parent / "out.onnx"
    out.write_bytes(b"as it was")

    with pytest.raises(InputError, match=needle) as caught:
        collapse_file(path, out, Wish(), Reporter(quiet=True))

    assert "\n" not in str(caught.value)
    assert out.read_bytes() == b"as it was"
    assert {p.name for p in path.parent.iterdir()} <= {path.name, "out.onnx", "w.data"}


def test_a_missing_file(tmp_path):
    refused(tmp_path / "none.onnx", "does not exist")


def test_a_folder(tmp_path):
    (tmp_path / "m.onnx").mkdir()

    with pytest.raises(InputError, match="is a folder"):
        load_model(tmp_path / "m.onnx")


@pytest.mark.parametrize("content", [b"", b"not onnx at all", b"\x00" * 64, b"<html></html>"])
def test_a_file_of_another_kind(tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)

    refused(path, "not an ONNX file|holds no network")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file(tmp_path, share):
    path = tmp_path / "m.onnx"
    whole = pair().SerializeToString()
    path.write_bytes(whole[: int(len(whole) * share)])

    refused(path, "truncated|holds no network|not a valid ONNX model|opset")


@pytest.mark.parametrize("opset", [7, 12, 99])
def test_an_opset_out_of_range(tmp_path, opset):
    path = tmp_path / "m.onnx"
    onnx.save(pair(opset=opset), path)

    refused(path, f"has opset {opset}; supported are 13 to 24")


def test_a_cycle(tmp_path):
    proto = pair()
    proto.graph.node[0].input[0] = "y"
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())

    refused(path, "not a valid ONNX model")


def externally(path: Path) -> None:
    proto = pair(np.ones((3, 3, 20, 20), dtype=np.float32), shape=(1, 3, 50, 50))
    onnx.save(proto, path, save_as_external_data=True, location="w.data", size_threshold=16)


def test_external_data_is_read(tmp_path):
    externally(tmp_path / "m.onnx")

    model = load_model(tmp_path / "m.onnx")

    held = model.graph.initializers["w"].const_value
    assert held is not None
    assert held.numpy().sum() == 3 * 3 * 20 * 20


def test_missing_external_data(tmp_path):
    externally(tmp_path / "m.onnx")
    (tmp_path / "w.data").unlink()

    refused(tmp_path / "m.onnx", "'w' is missing or too short in 'w.data'")


def test_short_external_data(tmp_path):
    externally(tmp_path / "m.onnx")
    content = (tmp_path / "w.data").read_bytes()
    (tmp_path / "w.data").write_bytes(content[:100])

    refused(tmp_path / "m.onnx", "'w' is missing or too short in 'w.data'")


def test_external_data_outside_the_folder(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    externally(inner / "m.onnx")
    (inner / "w.data").rename(tmp_path / "w.data")
    proto = onnx.load(inner / "m.onnx", load_external_data=False)
    proto.graph.initializer[0].external_data[0].value = "../w.data"
    (inner / "m.onnx").write_bytes(proto.SerializeToString())

    refused(inner / "m.onnx", "outside the model's folder")


def test_a_file_over_two_gib(tmp_path):
    path = tmp_path / "m.onnx"
    with path.open("wb") as stream:
        stream.truncate(2**31)

    refused(path, "over 2 GiB")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers(tmp_path, bad):
    weight = WEIGHT.copy()
    weight[1, 2] = bad
    path = tmp_path / "m.onnx"
    onnx.save(pair(weight), path)

    refused(path, "'w' of .* holds NaN or infinity")


@pytest.mark.parametrize(
    ("weight", "shape"),
    [(np.ones((0, 3, 1, 1), np.float32), (1, 3, 4, 4)), (WEIGHT, (1, 3, 0, 4))],
)
def test_zero_sized_tensors(tmp_path, weight, shape):
    path = tmp_path / "m.onnx"
    path.write_bytes(pair(weight, shape=shape).SerializeToString())

    refused(path, "no element|not a valid ONNX model")
