"""The adapter on NVIDIA's real binding: only the driver beneath it is a stub.

A fake shows that names and counts are right; the real binding also converts every argument.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STUB = ROOT / "tests" / "stub_cuda_driver.c"
PROGRAM = """
import numpy as np
from runtimes import cuda, cuda_python

device = cuda.open_device(0, graphs=True)
sent = np.arange(12, dtype=np.float32).reshape(3, 4)
back = np.empty((4, 3), np.float32)
pointer = device.allocate(sent.nbytes)
device.upload(pointer, sent.T)
device.download(back, pointer)
stream = device.stream()
stream.synchronise()
time_ms = stream.time_ms(lambda: None)
launch = stream.capture(lambda: None)
launch()
handle = stream.handle
stream.close()
device.free(pointer)
try:
    cuda_python.checked(cuda_python.driver.cuDeviceGet(5))
except RuntimeError as e:
    refusal = str(e)
print(type(device).__name__, device.gpu, (back == sent.T).all(), hex(handle), time_ms, refusal)
"""


def installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@pytest.fixture(scope="module")
def stub(tmp_path_factory):
    compiler = shutil.which("cc")
    if compiler is None or not installed("cuda.bindings"):
        pytest.skip("needs a C compiler and cuda-bindings: pip install cuda-bindings")
    folder = tmp_path_factory.mktemp("driver")
    library = folder / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, STUB, "-ldl"], check=True)
    return folder


def run(*command: str, folder: Path | str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", *command], capture_output=True, text=True, env=environment
    )


def test_every_call_goes_through_the_real_binding(stub):
    done = run(PROGRAM, folder=stub)

    assert done.stderr == ""
    assert done.stdout.split("\n")[0] == (
        "CudaPythonDevice Gpu(name='stub', compute_capability='8.7', cuda='13.2') "
        "True 0x20 1.5 CUDA answered CUDA_ERROR_INVALID_DEVICE"
    )


def test_the_real_binding_refuses_what_is_no_handle(stub):
    wrong = "from runtimes import cuda, cuda_python as binding\ncuda.open_device(0, graphs=True)\n"

    done = run(
        wrong + "binding.checked(binding.driver.cuStreamSynchronize(binding.driver.CUstream(7)))",
        folder=stub,
    )

    assert done.stderr.endswith("RuntimeError: CUDA answered CUDA_ERROR_INVALID_HANDLE\n")


@pytest.mark.skipif(not installed("cuda.bindings"), reason="needs: pip install cuda-bindings")
def test_without_a_driver_the_real_binding_is_no_runtime(tmp_path):
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has a driver")

    done = run("from runtimes import cuda\ncuda.open_device(0, graphs=True)", folder=tmp_path)

    assert "RuntimeUnavailable: CUDA does not start here" in done.stderr
