"""TensorRT 10.3 to 11.4: build or reuse an engine, run it with its tensors bound.

Inputs are copied to the device once and outputs only when asked for, so a run is the network
alone: enqueue on one stream and wait. The precision that counts is the one the inspector reads
off the finished engine; an engine without a layer in the graph's precision is refused.
"""

# Most machines that check types have no GPU, hence not this SDK either.
# pyright: reportMissingImports=false

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorrt as trt

from runtimes import cuda
from runtimes.base import Arrays, Inputs, Layer, Runtime
from runtimes.engine_cache import EngineCache, cache_folder
from runtimes.errors import InputError, RuntimeUnavailable
from runtimes.onnx_file import Declared, read_declared, sha256
from runtimes.trt_build import Messages, Order, array_type, build, typing
from runtimes.trt_inspection import NARROWNESS, Inspected, narrowest, read_inspection

LOG = logging.getLogger(__name__)


class Stopwatch(trt.IProfiler):
    """Layer times in the order in which TensorRT reports them."""

    def __init__(self):
        trt.IProfiler.__init__(self)
        self.times: list[tuple[str, float]] = []

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        self.times.append((layer_name, ms))


@dataclass(frozen=True, slots=True)
class Loaded:
    """A deserialised engine and what is known of it."""

    engine: trt.ICudaEngine
    inspected: tuple[Inspected, ...]
    origin: str  # built before, or why it was built now


class TrtSession:
    def __init__(
        self,
        loaded: Loaded,
        device: cuda.Device,
        arrays: Arrays,
        said: Mapping[str, str],
        *,
        graph: bool,
        profiled: bool,
    ):
        self.loaded = loaded
        self._said = dict(said)
        self._device = device
        self._pointers: dict[str, int] = {}
        self._results: dict[str, np.ndarray] = {}
        self._stopwatch = Stopwatch() if profiled else None
        self._stream = device.stream()
        self._context = loaded.engine.create_execution_context()
        if self._context is None:
            raise RuntimeUnavailable("TensorRT has no memory left for an execution context: "
                                     "close other programs on the GPU")  # fmt: skip
        self._bind(arrays)
        if self._stopwatch is not None:
            self._context.profiler = self._stopwatch
        self._launch = self._enqueue
        if graph and not profiled:  # a graph hides its layers from the profiler
            self.run()  # what TensorRT sets up with the first run cannot be recorded
            self._launch = self._stream.capture(self._enqueue)

    def _bind(self, arrays: Arrays) -> None:
        engine = self.loaded.engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        for name in names:
            if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                self._bind_input(name, arrays[name])
        missing = self._context.infer_shapes()
        if missing:
            raise InputError(f"TensorRT cannot tell the shapes of {', '.join(missing)}: export "
                             "the network with fixed shapes")  # fmt: skip
        for name in names:
            if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT:
                self._bind_output(name)

    def _bind_input(self, name: str, array: np.ndarray) -> None:
        wanted = array_type(self.loaded.engine.get_tensor_dtype(name))
        if array.dtype != wanted:
            raise InputError(f"input {name!r} is {array.dtype}, TensorRT takes {wanted} for it: "
                             "export the network with that type")  # fmt: skip
        if not self._context.set_input_shape(name, tuple(array.shape)):
            raise InputError(f"the engine was not built for {name} of shape {array.shape}")
        self._allocate(name, array.nbytes)
        self._device.upload(self._pointers[name], array)

    def _bind_output(self, name: str) -> None:
        shape = tuple(self._context.get_tensor_shape(name))
        if any(size < 0 for size in shape):
            raise InputError(f"the shape of output {name!r} is decided by the values: a network "
                             "to be measured has fixed shapes")  # fmt: skip
        dtype = array_type(self.loaded.engine.get_tensor_dtype(name))
        self._results[name] = np.empty(shape, dtype)
        self._allocate(name, self._results[name].nbytes)

    def _allocate(self, name: str, size_bytes: int) -> None:
        self._pointers[name] = self._device.allocate(max(size_bytes, 1))
        if not self._context.set_tensor_address(name, self._pointers[name]):
            raise RuntimeError(f"TensorRT takes no address for {name!r}")

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream.handle):
            raise RuntimeError("TensorRT did not enqueue the network")

    def run(self) -> None:
        self._launch()
        self._stream.synchronise()

    def device_ms(self) -> float | None:
        return self._stream.time_ms(self._launch)

    def outputs(self) -> Arrays:
        for name, array in self._results.items():
            self._device.download(array, self._pointers[name])
        return {name: array.copy() for name, array in self._results.items()}

    def identity(self) -> dict[str, str]:
        precision = narrowest(self.loaded.inspected)
        return {**self._said, "inference_precision": precision or "the inspector does not say"}

    def layers(self) -> tuple[Layer, ...]:
        times = self._stopwatch.times if self._stopwatch is not None else []
        known = {layer.name: layer for layer in self.loaded.inspected}
        unknown = Inspected("", "", None)
        found = ((name, known.get(name, unknown), ms) for name, ms in times)
        return tuple(Layer(name, layer.kind, ms, layer.precision) for name, layer, ms in found)

    def close(self) -> None:
        self._stream.synchronise()
        del self._launch, self._context, self.loaded
        for pointer in self._pointers.values():
            self._device.free(pointer)
        self._pointers.clear()
        self._stream.close()


@dataclass(frozen=True, slots=True)
class Trt:
    device: str = "gpu"  # gpu, gpu:1, dla:0
    workspace_mib: int = 0  # 0: no limit but the device's memory
    builder_level: int = 3
    batches: str = ""  # 1:32, the batches that the engine shall take; else the one measured
    cuda_graph: bool = False
    tf32: bool = False  # fp32 in the graph means fp32
    gpu_fallback: bool = False  # may layers that a DLA cannot run go to the GPU

    def version(self) -> str:
        return trt.__version__

    def providers(self) -> tuple[str, ...]:
        gpus = tuple(f"gpu:{index}" for index in range(cuda.count()))
        cuda.open_device(0)
        cores = trt.Builder(Messages()).num_DLA_cores
        return (*gpus, *(f"dla:{core}" for core in range(cores)))

    def load(self, path: Path, *, threads: int, inputs: Inputs, layers: bool = False) -> TrtSession:
        declared = read_declared(path)
        arrays = inputs(declared.inputs)
        unit, index = self._unit()
        device = cuda.open_device(0 if unit == "dla" else index, graphs=self.cuda_graph)
        order = self._order(declared, arrays, index if unit == "dla" else None)
        loaded = _loaded(path, declared, order, device.gpu)
        said = {
            "providers": f"TensorRT {trt.__version__} on {unit} of {device.gpu.name}",
            "cuda": device.gpu.cuda,
            "typing": typing(),
            "tf32": "allowed" if self.tf32 else "off",
            "builder_level": str(self.builder_level),
            "batches": self.batches or "the one measured",
            "workspace_mib": str(self.workspace_mib) if self.workspace_mib else "no limit",
            "cuda_graph": "yes" if self.cuda_graph else "no",
            "inference_threads": f"{threads}, of which TensorRT uses one to enqueue",
        }
        return TrtSession(loaded, device, arrays, said, graph=self.cuda_graph, profiled=layers)

    def _unit(self) -> tuple[str, int]:
        found = re.fullmatch(r"(gpu|cuda|dla)(?::(\d+))?", self.device.lower())
        if found is None:
            raise RuntimeUnavailable(f"TensorRT has no {self.device} here; it has: "
                                     f"{', '.join(self.providers())}")  # fmt: skip
        return ("dla" if found[1] == "dla" else "gpu"), int(found[2] or 0)

    def _order(self, declared: Declared, arrays: Arrays, dla_core: int | None) -> Order:
        dynamic = {
            port.name: tuple(arrays[port.name].shape)
            for port in declared.inputs
            if not all(isinstance(size, int) for size in port.shape)
        }
        return Order(
            declared.precision,
            dynamic,
            _range(self.batches),
            self.workspace_mib,
            self.builder_level,
            self.tf32,
            dla_core,
            self.gpu_fallback,
        )


def _range(batches: str) -> tuple[int, int] | None:
    if not batches:
        return None
    found = re.fullmatch(r"(\d+):(\d+)", batches)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(f"the setting batches is {batches!r}: give the least and the largest, as "
                         "in 1:32")  # fmt: skip
    return int(found[1]), int(found[2])


def _loaded(path: Path, declared: Declared, order: Order, gpu: cuda.Gpu) -> Loaded:
    """The engine for this file, reused where it may be."""
    logger = Messages()
    trt.init_libnvinfer_plugins(logger, "")
    cache = EngineCache(cache_folder("engines"))
    weights = ",".join(sha256(path.parent / name) for name in declared.external)
    wanted = {"onnx": sha256(path), "external_weights": weights, **order.facts()}
    place = {
        "tensorrt": trt.__version__,
        "cuda": gpu.cuda,
        "gpu": gpu.name,
        "compute_capability": gpu.compute_capability,
    }
    found = cache.find(wanted, place)
    LOG.info("%s: %s", path.name, found.reason)
    plan = found.engine
    if plan is None:
        plan, timed = build(path, order, cache.timing(place), logger)
        cache.keep(wanted, place, plan)
        cache.keep_timing(place, timed)
    runtime = trt.Runtime(logger)
    if order.dla_core is not None:
        runtime.DLA_core = order.dla_core
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise RuntimeUnavailable(f"TensorRT {trt.__version__} does not load the engine it built "
                                 f"for {path.name}: {logger.last()}")  # fmt: skip
    inspector = engine.create_engine_inspector()
    inspected = read_inspection(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    _check_promise(path, declared.precision, inspected)
    return Loaded(engine, inspected, found.reason)


def _check_promise(path: Path, promised: str, inspected: tuple[Inspected, ...]) -> None:
    """A graph in low precision whose engine has no layer as low is not what was asked for."""
    built = narrowest(inspected)
    if promised not in NARROWNESS or built is None:
        return
    if NARROWNESS.index(built) > NARROWNESS.index(promised):
        raise InputError(
            f"{path.name} is {promised}, but TensorRT {trt.__version__} built no layer below "
            f"{built}, so the number would be of another network: export it again with casts "
            "(fp16) or Q/DQ pairs (int8) around its convolutions"
        )


RUNTIME: type[Runtime] = Trt
