"""What an image is good for: one node on its runtime, with the right answer, or exit code 1."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from runtimes.base import make
from runtimes.errors import InputError
from runtimes.inputs import given
from runtimes.onnx_file import one_node_model

IMAGE = np.array([[-1.0, 2.0, -3.0, 4.0]], np.float32)


def smoke(name: str, device: str) -> str:
    """What ran; anything else raises."""
    runtime = make(name, device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one_node.onnx"
        path.write_bytes(one_node_model())
        session = runtime.load(path, threads=1, inputs=given({"x": IMAGE}))
        session.run()
        found = session.outputs()["y"]
        said = session.identity()["providers"]
        session.close()
    if not np.array_equal(found, np.maximum(IMAGE, 0)):
        raise InputError(f"{said} computed {found.tolist()} from {IMAGE.tolist()}")
    return f"{name} {runtime.version()} ran one node: {said}"


if __name__ == "__main__":
    try:
        print(smoke(*sys.argv[1:3]))
    except InputError as e:
        sys.exit(f"smoke: {e}")
