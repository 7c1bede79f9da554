"""Build a TensorRT engine from an ONNX file; the graph decides the precision.

From TensorRT 10.12 on the network is strongly typed: a layer computes in the types of its
tensors. Before that strong typing was incomplete, so there the graph's precision is also allowed
by a flag, TensorRT chooses, and the inspector is asked afterwards what it chose. TensorRT 11 has
neither the flags nor weak typing, hence a flag is looked up before it is used.
"""

# Most machines that check types have no GPU, hence not this SDK either.
# pyright: reportMissingImports=false

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorrt as trt

from runtimes.errors import InputError, RuntimeUnavailable

STRONG_SINCE = (10, 12)
WEAK_FLAGS = {"fp16": "FP16", "bf16": "BF16", "int8": "INT8"}
MIB = 1 << 20


class Messages(trt.ILogger):
    """TensorRT tells the reason of a failure to its logger alone."""

    def __init__(self):
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
            self.errors.append(msg)

    def last(self) -> str:
        return self.errors[-1].strip() if self.errors else "TensorRT gave no reason"


@dataclass(frozen=True, slots=True)
class Order:
    """What to build: everything but the file and the place that changes the engine."""

    precision: str
    shapes: Mapping[str, tuple[int, ...]]  # of the dynamic inputs
    batches: tuple[int, int] | None  # least and largest; None: of `shapes` alone
    workspace_mib: int
    builder_level: int
    tf32: bool
    dla_core: int | None
    gpu_fallback: bool

    def facts(self) -> dict[str, str]:
        """As text, for the name of a cached engine."""
        shapes = (f"{name}={'x'.join(map(str, shape))}" for name, shape in self.shapes.items())
        return {
            "precision": self.precision,
            "shapes": ",".join(sorted(shapes)),
            "batches": str(self.batches),
            "workspace_mib": str(self.workspace_mib),
            "builder_level": str(self.builder_level),
            "tf32": str(self.tf32),
            "dla_core": str(self.dla_core),
            "gpu_fallback": str(self.gpu_fallback),
            "typing": typing(),
        }


def typing() -> str:
    """How this TensorRT decides the precision of a layer."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", trt.__version__)[:2])
    weak = numbers < STRONG_SINCE and "FP16" in trt.BuilderFlag.__members__
    return "weak" if weak else "strong"


def build(path: Path, order: Order, timing: bytes, logger: Messages) -> tuple[bytes, bytes]:
    """The serialised engine, and the timing cache with what this build timed."""
    builder = trt.Builder(logger)
    strong = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(strong if typing() == "strong" else 0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        raise InputError(f"TensorRT {trt.__version__} cannot load {path}: {_parse_errors(parser)}")
    config = _configured(builder, order)
    profile = _profile(builder, network, order)
    if profile is not None:
        config.add_optimization_profile(profile)
    kernels = config.create_timing_cache(timing)
    config.set_timing_cache(kernels, False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise InputError(
            f"TensorRT {trt.__version__} cannot build {path.name} as {order.precision} with "
            f"{typing()} typing: {logger.last()}"
        )
    return bytes(plan), bytes(config.get_timing_cache().serialize())


def _configured(builder: trt.Builder, order: Order) -> trt.IBuilderConfig:
    config = builder.create_builder_config()
    config.builder_optimization_level = order.builder_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or the inspector says nothing
    if order.workspace_mib:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, order.workspace_mib * MIB)
    if not order.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if typing() == "weak" and order.precision in WEAK_FLAGS:
        config.set_flag(trt.BuilderFlag.__members__[WEAK_FLAGS[order.precision]])
    if order.dla_core is not None:
        _put_on_dla(builder, config, order, order.dla_core)
    return config


def _put_on_dla(builder: trt.Builder, config: trt.IBuilderConfig, order: Order, core: int) -> None:
    if core >= builder.num_DLA_cores:
        raise RuntimeUnavailable(
            f"there is no DLA core {core} for TensorRT {trt.__version__} here; it offers "
            f"{builder.num_DLA_cores} (10.x up to 10.7 on JetPack, and from 11.4.1 on AGX Orin)"
        )
    if order.precision not in ("fp16", "int8"):
        raise InputError(f"a DLA computes in fp16 or int8, not {order.precision}: export the "
                         "network in one of them")  # fmt: skip
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    if order.gpu_fallback:
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _profile(
    builder: trt.Builder, network: trt.INetworkDefinition, order: Order
) -> trt.IOptimizationProfile | None:
    """One profile, tuned for the shapes that will run; None when all are fixed.

    It takes those shapes alone, or `order.batches` of them: what is deployed for many batches is
    another engine, whose time may be another.
    """
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    for tensor in inputs:
        if tensor.is_shape_tensor:
            raise InputError(f"input {tensor.name!r} decides shapes by its values, and a "
                             "measurement has fixed shapes: make it a constant")  # fmt: skip
    dynamic = [tensor for tensor in inputs if -1 in tuple(tensor.shape)]
    if order.batches and not any(tensor.shape[0] == -1 for tensor in dynamic):
        raise InputError("the setting batches is for a network whose batch is dynamic, and every "
                         "input of this one has a fixed one: export it anew")  # fmt: skip
    if not dynamic:
        return None
    profile = builder.create_optimization_profile()
    for tensor in dynamic:
        best = order.shapes[tensor.name]
        least, most = best, best
        if order.batches and tensor.shape[0] == -1:
            least, most = ((size, *best[1:]) for size in order.batches)
            if not least[0] <= best[0] <= most[0]:
                raise InputError(f"the batch {best[0]} is outside of {least[0]}:{most[0]}, which "
                                 "the setting batches allows")  # fmt: skip
        profile.set_shape(tensor.name, least, best, most)
    return profile


def _parse_errors(parser: trt.OnnxParser) -> str:
    errors = (parser.get_error(index) for index in range(parser.num_errors))
    told = [f"{e.node_operator()} {e.node_name()!r}: {e.desc()}" for e in errors]
    return "; ".join(told) or "the parser gave no reason"


def array_type(dtype: trt.DataType) -> np.dtype:
    """numpy's type of a tensor's; what numpy does not have is refused."""
    known = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "UINT8": "uint8",
             "INT32": "int32", "INT64": "int64", "BOOL": "bool"}  # fmt: skip
    if dtype.name not in known:
        raise InputError(f"a tensor of type {dtype.name} cannot be read here: cast the network's "
                         "inputs and outputs to float32 or float16")  # fmt: skip
    return np.dtype(known[dtype.name])
