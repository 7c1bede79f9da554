"""Put fake SDKs where the real ones would be imported from, and import the adapters afresh."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from fake_gpu import Gpu, fake_cuda_python, fake_pycuda
from fake_tensorrt import FakeTensorRT

TENSORRT = ("10.3.0", "10.13.3", "10.16.1", "11.4.0")
CUDA = ("pycuda 2026.1", "cuda-python 12.9.10", "cuda-python 13.5.0")
FAKES = [(version, CUDA[0]) for version in TENSORRT]
FAKES += [("10.3.0", CUDA[1]), ("10.16.1", CUDA[1]), ("11.4.0", CUDA[2])]
GRAPHS = FAKES[4:]  # pycuda records none
ADAPTERS = ("cuda", "cuda_pycuda", "cuda_python", "trt", "trt_build")


def install_cuda(patch: pytest.MonkeyPatch, gpu: Gpu, binding: str) -> None:
    """That binding and no other."""
    name, version = binding.split()
    absent: dict[str, Any] = dict.fromkeys(
        ("pycuda", "pycuda.driver", "cuda", "cuda.bindings", "cuda.bindings.driver")
    )
    if name == "pycuda":
        driver = fake_pycuda(gpu)
        absent |= {"pycuda": package("pycuda", driver=driver), "pycuda.driver": driver}
    else:
        driver = fake_cuda_python(gpu, version)
        bindings = package("cuda.bindings", driver=driver)
        absent |= {
            "cuda": package("cuda", bindings=bindings),
            "cuda.bindings": bindings,
            "cuda.bindings.driver": driver,
        }
    for title, module in absent.items():
        patch.setitem(sys.modules, title, module)


@contextmanager
def fresh_adapters(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget the adapters of other SDKs before, and those of the fakes afterwards."""
    runtimes = import_module("runtimes")
    for name in ADAPTERS:
        patch.delitem(sys.modules, f"runtimes.{name}", raising=False)
        patch.delattr(runtimes, name, raising=False)
    try:
        yield
    finally:
        for name in ADAPTERS:
            sys.modules.pop(f"runtimes.{name}", None)
            vars(runtimes).pop(name, None)


@contextmanager
def fake_tensorrt(
    patch: pytest.MonkeyPatch, version: str, binding: str
) -> Iterator[SimpleNamespace]:
    """That release on a fake GPU: `.trt` scripts it, `.gpu` is its device."""
    gpu = Gpu()
    install_cuda(patch, gpu, binding)
    fake = FakeTensorRT(version, gpu)
    patch.setitem(sys.modules, "tensorrt", fake.module)
    with fresh_adapters(patch):
        yield SimpleNamespace(trt=fake, gpu=gpu)


def package(name: str, **members: ModuleType) -> ModuleType:
    module = ModuleType(name)
    module.__path__ = []  # it has submodules
    vars(module).update(members)
    return module
