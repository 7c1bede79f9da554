"""ONNX Runtime: inputs and outputs bound once, one request in flight, no silent fallback.

Inputs and outputs live where the provider computes, or every run would copy them. A provider that
cannot start is left out with a line in a log, so any but the CPU's first has to run one node. What
a graph narrower than fp32 is really computed in is read off the profile of one more run.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from runtimes.base import Arrays, Inputs, Layer, Runtime
from runtimes.engine_cache import cache_folder
from runtimes.errors import InputError, RuntimeUnavailable
from runtimes.onnx_file import one_node_model, read_declared
from runtimes.read_back import OF_TYPE, computed_in

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
MEMORY = {PROVIDERS["cuda"]: "cuda", PROVIDERS["tensorrt"]: "cuda"}  # the others use the host's
FATAL_ONLY = 4  # what ORT logs as an error it also raises
state = import_module("onnxruntime.capi.onnxruntime_pybind11_state")  # has no type stubs
REFUSALS = (
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NoSuchFile,
    state.NotImplemented,
    state.RuntimeException,
)


class OrtSession:
    def __init__(
        self,
        session: ort.InferenceSession,
        arrays: Arrays,
        threads: int,
        index: int,
        read_back: Callable[[], str],
    ):
        self._session, self._read_back = session, read_back
        memory = MEMORY.get(session.get_providers()[0], "cpu")
        self._threads = threads
        self._binding = session.io_binding()
        self._values = {
            name: ort.OrtValue.ortvalue_from_numpy(array, memory, index)
            for name, array in arrays.items()
        }
        for name, value in self._values.items():
            self._binding.bind_ortvalue_input(name, value)
        for port in session.get_outputs():
            self._binding.bind_output(port.name, memory, index)
        self._bound_outputs = False

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)
        if not self._bound_outputs:
            self._keep_output_buffers()

    def _keep_output_buffers(self) -> None:
        """Reuse the first run's buffers, unless a shape is decided by the values."""
        for port, value in zip(
            self._session.get_outputs(), self._binding.get_outputs(), strict=True
        ):
            if value.is_tensor() and all(isinstance(size, int) for size in port.shape):
                self._binding.bind_ortvalue_output(port.name, value)
        self._bound_outputs = True

    def outputs(self) -> Arrays:
        ports = self._session.get_outputs()
        copies = self._binding.copy_outputs_to_cpu()
        return {port.name: copy for port, copy in zip(ports, copies, strict=True)}

    def device_ms(self) -> float | None:
        return None

    def identity(self) -> dict[str, str]:
        return {
            "providers": ",".join(self._session.get_providers()),
            "inference_precision": self._read_back(),
            "graph_optimisation": "all",
            "intra_op_threads": str(self._session.get_session_options().intra_op_num_threads),
            "spinning": "yes" if self._threads > 1 else "no",
        }

    def layers(self) -> tuple[Layer, ...]:
        return _layers(self._session)

    def close(self) -> None:
        del self._binding, self._session, self._values


@dataclass(frozen=True, slots=True)
class Ort:
    device: str = "cpu"

    def version(self) -> str:
        return f"{ort.__version__} ({ort.get_build_info()})"

    def providers(self) -> tuple[str, ...]:
        return tuple(ort.get_available_providers())

    def load(self, path: Path, *, threads: int, inputs: Inputs, layers: bool = False) -> OrtSession:
        declared = read_declared(path)
        arrays = inputs(declared.inputs)
        provider, index = self._provider()
        chosen = [(provider, provider_options(provider, index, declared.precision))]
        if provider != PROVIDERS["cpu"]:
            prove(provider, chosen)
        try:
            session = ort.InferenceSession(
                path, self._options(threads, provider, layers), providers=chosen
            )
        except REFUSALS as e:
            raise InputError(f"ONNX Runtime cannot load {path}: {first_line(e)}") from e
        if session.get_providers()[0] != provider:
            raise RuntimeUnavailable(
                f"ONNX Runtime fell back from {provider} to {session.get_providers()[0]}: "
                "install the package and driver of that provider"
            )

        def read_back() -> str:
            """A session of its own, whose profiling takes no time from the one that is measured."""
            if provider == PROVIDERS["tensorrt"]:  # one fused node, which tells nothing
                return "as TensorRT chose"
            if declared.precision == "fp32":
                return declared.precision  # nothing narrows it: TF32 is off
            profiled = ort.InferenceSession(
                path, self._options(threads, provider, layers=True), providers=chosen
            )
            profiled.run(None, dict(arrays))
            return computed_in(_layers(profiled)) or "the profile does not say"

        return OrtSession(session, arrays, threads, index, read_back)

    def _provider(self) -> tuple[str, int]:
        name, _, index = self.device.partition(":")
        provider = PROVIDERS.get(name, name)
        if provider not in self.providers() or not re.fullmatch(r"\d*", index):
            raise RuntimeUnavailable(
                f"ONNX Runtime has no {provider if provider == name else self.device} here; "
                f"it has: {', '.join(self.providers())}"
            )
        return provider, int(index or 0)

    def _options(self, threads: int, provider: str, layers: bool) -> ort.SessionOptions:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = FATAL_ONLY
        if threads > 1:  # the calling thread is the first one and is pinned by the process
            cores = sorted(os.sched_getaffinity(0))[1:threads]
            if len(cores) == threads - 1:
                affinities = ";".join(str(core + 1) for core in cores)
                options.add_session_config_entry("session.intra_op_thread_affinities", affinities)
        if provider != PROVIDERS["cpu"]:  # ORT refuses this entry beside an explicit CPU provider
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        if layers:
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(tempfile.gettempdir()) / f"shoal-{os.getpid()}")
        return options


def provider_options(provider: str, index: int, precision: str) -> dict[str, str]:
    """The graph decides the precision; engines that take minutes to build are kept."""
    if provider == PROVIDERS["cuda"]:
        return {"device_id": str(index), "use_tf32": "0"}
    if provider == PROVIDERS["tensorrt"]:
        kept = str(cache_folder("ort-tensorrt"))
        return {
            "device_id": str(index),
            "trt_fp16_enable": str(int(precision == "fp16")),
            "trt_int8_enable": str(int(precision == "int8")),
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": kept,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": kept,
        }
    return {}


def prove(provider: str, chosen: list[Any]) -> None:
    """Run one node and read off the profile who ran it."""
    options = ort.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    options.enable_profiling = True
    options.profile_file_prefix = str(Path(tempfile.gettempdir()) / f"shoal-proof-{os.getpid()}")
    try:
        session = ort.InferenceSession(one_node_model(), options, providers=chosen)
        session.run(None, {"x": np.ones((1, 4), np.float32)})
    except REFUSALS as e:
        raise RuntimeUnavailable(
            f"ONNX Runtime's {provider} does not run a single node here: {first_line(e)}"
        ) from e
    ran = {event["args"].get("provider", "nobody") for event in _executed(session)}
    if ran != {provider}:
        raise RuntimeUnavailable(
            f"ONNX Runtime ran a single node on {', '.join(sorted(ran)) or 'nothing'} instead of "
            f"{provider}: install that provider's package and driver, and no other onnxruntime "
            "beside it"
        )


def _layers(session: ort.InferenceSession) -> tuple[Layer, ...]:
    """The operators of every run so far; an operator computes in the type of its first input."""
    return tuple(
        Layer(
            event["args"].get("node_name") or event["name"].removesuffix("_kernel_time"),
            event["args"].get("op_name", ""),
            event["dur"] / 1e3,
            next((OF_TYPE.get(kind) for one in _types(event) for kind in one), None),
        )
        for event in _executed(session)
    )


def _types(event: dict[str, Any]) -> list[dict[str, Any]]:
    """[{"float": [1, 3, 8, 8]}, ...]: type and shape of each input."""
    return event["args"].get("input_type_shape", [])


def _executed(session: ort.InferenceSession) -> list[dict[str, Any]]:
    """The nodes' events of the session's own profile, which ends here."""
    trace = Path(session.end_profiling())
    events = json.loads(trace.read_text())
    trace.unlink()
    return [
        event
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    ]


def first_line(error: Exception) -> str:
    """An SDK's message without its stack."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


RUNTIME: type[Runtime] = Ort
