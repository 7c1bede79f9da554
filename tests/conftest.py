"""Small real networks for every test that needs an ONNX file, and places of its own for each."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from loopback_sshd import SSHD, LoopbackSshd
from onnx import TensorProto, helper, numpy_helper

pytest_plugins = ["server_fixtures"] if find_spec("torch") else []

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


@pytest.fixture
def network(make_network: MakeNetwork) -> Path:
    """Four convolutions: 3 -> 8, then three of 8 -> 8, which cost the most."""
    return make_network(convolutions=4)


@pytest.fixture
def networks(make_network: MakeNetwork) -> tuple[Path, Path]:
    """A small one, and one that takes many times as long."""
    small = make_network("small.onnx", convolutions=2)
    large = make_network("large.onnx", convolutions=12, channels=24)
    return small, large


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    """A device behind ssh on loopback."""
    if not Path(SSHD).exists():
        pytest.skip("no sshd here: apt-get install openssh-server")
    with LoopbackSshd(tmp_path_factory.mktemp("device")) as device:
        yield device
