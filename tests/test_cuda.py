"""CUDA through both of its bindings, on a GPU made of Python."""

import sys
from importlib import import_module

import numpy as np
import pytest
from fake_gpu import Gpu
from fake_sdks import CUDA, fresh_adapters, install_cuda

from runtimes.errors import RuntimeUnavailable


@pytest.fixture
def gpu():
    return Gpu()


@pytest.fixture(params=CUDA)
def cuda(request, monkeypatch, gpu):
    install_cuda(monkeypatch, gpu, request.param)
    with fresh_adapters(monkeypatch):
        yield import_module("runtimes.cuda")


def test_it_says_which_gpu_it_is(cuda):
    assert cuda.open_device(0).gpu == cuda.Gpu("Orin", "8.7", "12.6")


def test_it_opens_a_device_once(cuda, gpu):
    assert cuda.open_device(0) is cuda.open_device(0)
    assert gpu.contexts == 1


def test_a_device_that_is_not_there_is_refused_with_the_count(cuda):
    with pytest.raises(RuntimeUnavailable, match="no GPU 3 here; CUDA sees 1"):
        cuda.open_device(3)


def test_a_driver_without_a_device_is_no_runtime(cuda, gpu):
    gpu.devices = 0

    with pytest.raises(RuntimeUnavailable, match="CUDA does not start here"):
        cuda.open_device(0)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "int64"])
def test_what_was_uploaded_comes_back(cuda, dtype):
    device = cuda.open_device(0)
    array = np.arange(12).reshape(3, 4).astype(dtype)
    pointer = device.allocate(array.nbytes)
    back = np.empty_like(array)

    device.upload(pointer, array)
    device.download(back, pointer)

    np.testing.assert_array_equal(back, array)


def test_a_view_is_uploaded_in_its_own_order(cuda):
    device = cuda.open_device(0)
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    pointer = device.allocate(array.nbytes)
    back = np.empty((4, 3), np.float32)

    device.upload(pointer, array.T)
    device.download(back, pointer)

    np.testing.assert_array_equal(back, array.T)


def test_freed_memory_is_gone_from_the_device(cuda, gpu):
    device = cuda.open_device(0)
    pointer = device.allocate(64)

    device.free(pointer)

    assert gpu.memory == {}


def test_work_waits_until_it_is_synchronised(cuda, gpu):
    stream = cuda.open_device(0).stream()
    done = []
    gpu.enqueue(stream.handle, lambda: done.append(1))

    before = list(done)
    stream.synchronise()

    assert (before, done) == ([], [1])


def test_time_is_taken_between_two_events_on_the_devices_clock(cuda, gpu):
    stream = cuda.open_device(0).stream()

    def work():
        for _ in range(4):
            gpu.enqueue(stream.handle, lambda: None)

    assert stream.time_ms(work) == pytest.approx(5 * 0.25)


@pytest.mark.parametrize("cuda", CUDA[1:], indirect=True)
def test_a_recorded_graph_repeats_its_work(cuda, gpu):
    stream = cuda.open_device(0, graphs=True).stream()
    done = []
    launch = stream.capture(lambda: gpu.enqueue(stream.handle, lambda: done.append(1)))

    launch()
    launch()
    stream.synchronise()

    assert done == [1, 1]


@pytest.mark.parametrize("cuda", CUDA[:1], indirect=True)
def test_pycuda_has_no_graphs_and_says_what_has(cuda):
    with pytest.raises(RuntimeUnavailable, match="pip install cuda-bindings"):
        cuda.open_device(0, graphs=True)
    with pytest.raises(RuntimeUnavailable, match="pip install cuda-bindings"):
        cuda.open_device(0).stream().capture(lambda: None)


@pytest.mark.parametrize("cuda", CUDA[1:], indirect=True)
def test_an_error_of_the_driver_has_cudas_own_name(cuda):
    with pytest.raises(RuntimeError, match="CUDA_ERROR_INVALID_VALUE"):
        cuda.open_device(0).free(12345)


@pytest.mark.parametrize("cuda", CUDA[1:], indirect=True)
def test_a_closed_stream_leaves_nothing_on_the_device(cuda, gpu):
    stream = cuda.open_device(0).stream()
    stream.capture(lambda: gpu.enqueue(stream.handle, lambda: None))

    stream.close()

    assert gpu.streams == {}


def test_without_a_binding_both_are_named(monkeypatch):
    for name in ("pycuda", "pycuda.driver", "cuda", "cuda.bindings", "cuda.bindings.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    with fresh_adapters(monkeypatch):
        cuda = import_module("runtimes.cuda")

        with pytest.raises(RuntimeUnavailable, match="pip install pycuda, or cuda-bindings"):
            cuda.open_device(0)


@pytest.mark.parametrize(
    ("binding", "wrong", "error"),
    [
        (CUDA[0], lambda driver: driver.mem_allocate(4), AttributeError),
        (CUDA[0], lambda driver: driver.mem_alloc(4, 4), TypeError),
        (CUDA[0], lambda driver: driver.Device(0).make_primary(), AttributeError),
        (CUDA[0], lambda driver: driver.Stream(0, 0), TypeError),
        (CUDA[0], lambda driver: driver.mem_get_info(), NotImplementedError),
        (CUDA[1], lambda driver: driver.cuMemAlloc(4, 4), TypeError),
        (CUDA[1], lambda driver: driver.cuMemAllocate(4), AttributeError),
        (CUDA[2], lambda driver: driver.CUstreamCaptureMode.STRICT, AttributeError),
    ],
)
def test_the_fake_can_fail(monkeypatch, gpu, binding, wrong, error):
    install_cuda(monkeypatch, gpu, binding)
    gpu.contexts = 1
    name = "pycuda.driver" if binding.startswith("pycuda") else "cuda.bindings.driver"

    with pytest.raises(error):
        wrong(import_module(name))


def test_the_fake_device_refuses_work_without_a_context(gpu):
    with pytest.raises(Exception, match="INVALID_CONTEXT"):
        gpu.allocate(4)
