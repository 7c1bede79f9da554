"""OpenVINO: one stream, synchronous inference, f32 arithmetic unless the graph says otherwise.

An NPU computes in f16 whatever it is told, so it is told nothing and asked afterwards. What a GPU
or an NPU compiles is kept; on a CPU compiling is a part of `load_ms` that its users want to see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import openvino as ov

from runtimes.base import Arrays, Inputs, Layer, Runtime
from runtimes.engine_cache import cache_folder
from runtimes.errors import InputError, RuntimeUnavailable
from runtimes.onnx_file import read_declared
from runtimes.read_back import OF_TYPE, computed_in

COLD_RUNS = 5  # code is compiled and caches are filled: the profiler's means contain them
READ_BACK = (
    "PERFORMANCE_HINT",
    "NUM_STREAMS",
    "INFERENCE_NUM_THREADS",
    "ENABLE_CPU_PINNING",
)


class OvSession:
    def __init__(self, compiled: ov.CompiledModel, arrays: Arrays, profiled: bool):
        self._compiled = compiled
        self._profiled = profiled
        self._precisions = _precisions(compiled)
        self._runs = 0
        self._cold: dict[str, Layer] = {}
        self._request = compiled.create_infer_request()
        self._tensors = {name: ov.Tensor(array, shared_memory=True)
                         for name, array in arrays.items()}  # fmt: skip
        for name, tensor in self._tensors.items():
            self._request.set_tensor(name, tensor)
        self._infer = self._request.infer

    def run(self) -> None:
        self._infer(None, share_inputs=True, share_outputs=True)
        self._runs += self._profiled
        if self._profiled and self._runs == COLD_RUNS:
            self._cold = _executed(self._request, self._precisions)

    def outputs(self) -> Arrays:
        return {
            port.any_name: self._request.get_tensor(port).data.copy()
            for port in self._compiled.outputs
        }

    def identity(self) -> dict[str, str]:
        has = self._compiled.get_property("SUPPORTED_PROPERTIES")
        known = {name: str(self._compiled.get_property(name)) for name in READ_BACK if name in has}
        devices = self._compiled.get_property("EXECUTION_DEVICES")
        return {
            "providers": ",".join(devices),
            "inference_precision": computed_in(self._precisions.values()) or "it does not say",
            "precision_hint": self._compiled.get_property(
                "INFERENCE_PRECISION_HINT"
            ).get_type_name(),
            **{name.lower(): value for name, value in known.items()},
        }

    def device_ms(self) -> float | None:
        return None

    def layers(self) -> tuple[Layer, ...]:
        if not self._profiled:
            return ()
        now = _executed(self._request, self._precisions)
        if self._runs <= COLD_RUNS:
            return tuple(now.values())
        return tuple(
            replace(layer, time_ms=_later_mean(_time_ms(now, name), self._runs,
                                               _time_ms(self._cold, name), COLD_RUNS))
            for name, layer in (self._cold | now).items()
        )  # fmt: skip

    def close(self) -> None:
        del self._infer, self._request, self._compiled, self._tensors


@dataclass(frozen=True, slots=True)
class Ov:
    device: str = "cpu"
    cache: str = "auto"  # on, off, auto: on for all but a CPU

    def version(self) -> str:
        return ov.__version__

    def providers(self) -> tuple[str, ...]:
        return tuple(ov.Core().available_devices)

    def load(self, path: Path, *, threads: int, inputs: Inputs, layers: bool = False) -> OvSession:
        arrays = inputs(read_declared(path).inputs)
        core = ov.Core()
        device = self.device.upper()
        if not names_one_of(device, core.available_devices):
            raise RuntimeUnavailable(
                f"OpenVINO has no {device} here; it has: {', '.join(core.available_devices)}"
            )
        try:
            model = core.read_model(path)
            model.reshape({name: list(array.shape) for name, array in arrays.items()})
            compiled = core.compile_model(model, device, self.settings(threads, layers, device))
        except RuntimeError as e:
            raise InputError(f"OpenVINO cannot load {path}: {reason(e)}") from e
        return OvSession(compiled, arrays, layers)

    def settings(self, threads: int, layers: bool, device: str) -> dict[str, str]:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "PERF_COUNT": "YES" if layers else "NO",
        }
        if self.cache not in ("on", "off", "auto"):
            raise InputError(f"setting 'cache' of OpenVINO is on, off or auto, not {self.cache!r}")
        if self.cache == "on" or (self.cache == "auto" and device != "CPU"):
            settings["CACHE_DIR"] = str(cache_folder("openvino"))
        if not device.startswith("NPU"):
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        if device == "CPU":
            settings |= {"INFERENCE_NUM_THREADS": str(threads), "ENABLE_CPU_PINNING": "YES"}
        return settings


def names_one_of(device: str, available: list[str]) -> bool:
    """GPU.1 is itself alone, GPU the first of GPU.0 and GPU.1; AUTO and MULTI are no device."""
    return any(device in (name, name.split(".")[0]) for name in available)


def _precisions(compiled: ov.CompiledModel) -> dict[str, Layer]:
    """Every operator as it was compiled, without a time."""
    found = {}
    for node in compiled.get_runtime_model().get_ops():
        facts = node.get_rt_info()
        name = node.get_friendly_name()
        kind, precision = (
            facts[key].astype(str) if key in facts else ""
            for key in ("layerType", "runtimePrecision")
        )
        found[name] = Layer(name, kind, 0.0, OF_TYPE.get(precision))
    return found


def _executed(request: ov.InferRequest, compiled: Mapping[str, Layer]) -> dict[str, Layer]:
    """Means over all runs so far, cut to whole microseconds; below one it says "not run"."""
    unknown = Layer("", "", 0.0)
    return {
        node.node_name: Layer(
            node.node_name,
            node.node_type,
            node.real_time.total_seconds() * 1e3,
            compiled.get(node.node_name, unknown).precision,
        )
        for node in request.profiling_info
        if node.status == ov.ProfilingInfo.Status.EXECUTED
    }


def _time_ms(layers: Mapping[str, Layer], name: str) -> float:
    return layers[name].time_ms if name in layers else 0.0


def _later_mean(mean_ms: float, runs: int, cold_ms: float, cold_runs: int) -> float:
    """The mean over the runs after the first `cold_runs`, of what the two means leave for it."""
    return max(0.0, (mean_ms * runs - cold_ms * cold_runs) / (runs - cold_runs))


def reason(error: RuntimeError) -> str:
    """OpenVINO puts source positions first and the reason last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


RUNTIME: type[Runtime] = Ov
