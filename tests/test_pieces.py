"""What an option replaces and what it puts there, cut out of a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import numpy_helper

from pipeline.mapping import load_model, map_model
from pipeline.plans.pieces import Cut, cut_out, geometry_of
from pipeline.plans.yardstick import sizes, write_yardstick


def cuts(path: Path) -> dict[str, Cut]:
    network = load_model(path)
    map_ = map_model(network)
    found = {}
    for option in map_.options:
        cut = cut_out(network, map_, option, seed=0)
        assert isinstance(cut, Cut), cut
        found[option.id] = cut
    return found


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_the_operators_alone_and_the_activation_behind_them(make_network):
    found = cuts(make_network(convolutions=3))
    middle = next(cut for id_, cut in found.items() if "merge-5x5@1-2" in id_)

    assert operators(middle.before.model) == ["Conv", "Relu", "Conv", "Relu"]
    assert middle.after is not None
    assert operators(middle.after.model) == ["Conv", "Relu"]


def test_both_pieces_run_and_give_the_same_shape(make_network, tmp_path):
    for cut in cuts(make_network(convolutions=3)).values():
        shapes = set()
        for piece in (cut.before, cut.after):
            assert piece is not None
            ir.save(piece.model, tmp_path / "piece.onnx")
            session = onnxruntime.InferenceSession(tmp_path / "piece.onnx")
            feed = {
                name: np.ones(shape, np.float32) for name, shape in sizes(piece.model, 1).items()
            }
            found: Any = session.run(None, feed)
            shapes.add(found[0].shape)
        assert len(shapes) == 1


def test_equal_operators_of_one_network_are_one_piece(make_network):
    found = cuts(make_network(convolutions=4))
    pairs = [c.before.geometry for id_, c in found.items() if "merge-5x5" in id_]

    assert len(pairs) == 3
    assert len(set(pairs)) == 2  # the first reads three channels, the others eight


def test_weights_and_names_do_not_count(make_network):
    path = make_network(convolutions=2)
    before = geometry_of(load_model(path))
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        other = numpy_helper.to_array(tensor) + 1
        tensor.CopyFrom(numpy_helper.from_array(other, tensor.name))
    for node in model.graph.node:
        node.name = f"another {node.name}"
    onnx.save(model, path)

    assert geometry_of(load_model(path)) == before


@pytest.mark.parametrize("change", [{"channels": 9}, {"size": 13}, {"convolutions": 3}])
def test_geometry_does(make_network, change):
    one = geometry_of(load_model(make_network("one.onnx", convolutions=2)))
    other = geometry_of(load_model(make_network("other.onnx", **{"convolutions": 2} | change)))

    assert one != other


def test_so_many_windows_a_sample_are_another_geometry_than_more(make_network):
    one, other, more, most = (
        geometry_of(load_model(make_network(f"{index}.onnx", batch=batch)))
        for index, batch in enumerate(("n", "batch", "4*n", "9*n"))
    )

    assert one == other
    assert len({one, more, most}) == 3


def test_a_piece_says_what_it_is(make_network):
    found = cuts(make_network(convolutions=2))

    assert {cut.before.what for cut in found.values()} == {
        "1x3x12x12: Conv 3x3 to 8, Relu, Conv 3x3 to 8, Relu"
    }


def test_a_shape_that_nobody_knows_is_a_reason(make_network):
    network = load_model(make_network(convolutions=2, height="h"))
    map_ = map_model(network)

    said = cut_out(network, map_, map_.options[0], seed=0)

    assert isinstance(said, str)
    assert "image" in said


def test_the_yardstick_runs_at_any_batch(tmp_path):
    path = write_yardstick(tmp_path / "yardstick.onnx")
    shape = sizes(ir.load(path), 2)["yardstick"]

    session = onnxruntime.InferenceSession(path)
    found: Any = session.run(None, {"yardstick": np.ones(shape, np.float32)})

    assert found[0].shape == shape
