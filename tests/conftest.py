"""Small real networks for every test that needs an ONNX file."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

MakeNetwork = Callable[..., Path]


@pytest.fixture(autouse=True)
def private_places(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    """Neither wait for a real measurement's lease, nor write into the user's registry."""
    monkeypatch.setenv("SHOAL_LEASES", str(tmp_path_factory.mktemp("leases")))
    monkeypatch.setenv("SHOAL_REGISTRY", str(tmp_path_factory.mktemp("registry")))


@pytest.fixture
def make_network(tmp_path: Path) -> MakeNetwork:
    """`make_network("a.onnx", convolutions=3, batch="n")`: a stack of 3x3 convolutions, ReLUs."""

    def make(
        name: str = "network.onnx",
        *,
        convolutions: int = 2,
        channels: int = 8,
        size: int = 12,
        batch: int | str = 1,
        height: int | str | None = None,
        extra: int = 0,
    ) -> Path:
        noise = np.random.default_rng(0)
        nodes, weights, value, width = [], [], "image", 3
        for index in range(convolutions):
            weight = noise.standard_normal((channels, width, 3, 3)).astype(np.float32) / 10
            weights.append(numpy_helper.from_array(weight, f"weight{index}"))
            nodes.append(
                helper.make_node(
                    "Conv", [value, f"weight{index}"], [f"conv{index}"],
                    name=f"conv{index}", pads=[1, 1, 1, 1],
                )
            )  # fmt: skip
            nodes.append(
                helper.make_node("Relu", [f"conv{index}"], [f"relu{index}"], name=f"relu{index}")
            )
            value, width = f"relu{index}", channels
        for index in range(extra):
            nodes.append(helper.make_node("Erf", [value], [f"erf{index}"], name=f"erf{index}"))
            value = f"erf{index}"
        nodes.append(helper.make_node("GlobalAveragePool", [value], ["pooled"], name="pool"))
        shape = [batch, 3, size if height is None else height, size]
        graph = helper.make_graph(
            nodes,
            "network",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, [batch, channels, 1, 1])],
            weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        onnx.checker.check_model(model)
        path = tmp_path / name
        onnx.save(model, path)
        return path

    return make


@pytest.fixture(scope="session")
def job(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tiny job, run once; whoever changes its workspace copies it first.

    It needs the server's packages, and this file is read where a board's tests run too.
    """
    tiny = import_module("tiny_job")
    folder = tmp_path_factory.mktemp("job")
    (folder / "tiny.toml").write_text('precisions = ["fp32", "int8"]' + tiny.RECIPE)
    return tiny.Job(
        folder, tiny.shoal("compress", "tiny.toml", "--out", "work", "--json", cwd=folder)
    )
