"""Run a network before and after, and bound what is different.

    relative RMS = sqrt(mean (after - before)^2 / mean before^2)

Both run in ONNX Runtime without graph optimisations on seeded random inputs, of two sizes where the
shapes allow it, an odd one included. The border is a ring of the merged kernel's reach: an error in
moving a pixel shows there first, and would be averaged away in a large map.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    RuntimeException,
)
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NotSupported

from pipeline.collapse.algebra import inside_taps
from pipeline.collapse.collapsing import Merged
from pipeline.graphs.constants import constant
from pipeline.graphs.geometry import Geometry
from runtimes.errors import InputError

TOLERANCES = {"float16": 5e-3, "float32": 1e-5, "float64": 1e-10}
SIZES = ((64, 75), (224, 225))
LENGTHS = (8, 13)
IN_MEMORY_BYTES = 2**30

Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Difference:
    """Of one value, its border apart; None where it has no space or the kernel no reach."""

    value: str
    max_abs: float
    rms_relative: float
    border_rms_relative: float | None


@dataclass(frozen=True, slots=True)
class Certificate:
    """`inputs` are the shapes that were run; `merges` has one difference per merged operator."""

    max_abs: float
    rms_relative: float
    border_rms_relative: float | None
    tolerance: float
    inputs: tuple[dict[str, tuple[int, ...]], ...]
    passed: bool
    merges: tuple[Difference, ...] = ()


def certify(
    before: ir.Model,
    after: ir.Model,
    *,
    tolerance: float | None = None,
    seed: int,
    inputs: Sequence[Feeds] | None = None,
    merges: Sequence[Merged] = (),
) -> Certificate:
    """Compare the outputs, and the value of every merge that both networks have."""
    outputs = [value.name or "" for value in before.graph.outputs]
    shared = _value_names(before) & _value_names(after)
    watched = {m.output: m for m in merges if m.output in shared and m.output not in outputs}
    names = [*outputs, *watched]
    geometries = {m.output: m.geometry for m in merges}
    try:
        one = _Runner(before, names)
    except (Fail, InvalidGraph, NotSupported) as e:
        reason = str(e).splitlines()[0]
        raise InputError(f"ONNX Runtime, which certifies, cannot load the network: {reason}") from e
    two = _Runner(after, names)
    pairs: dict[str, list[Difference]] = {name: [] for name in names}
    attempts = [inputs] if inputs is not None else draw_inputs(before, seed)
    used, expected = _first_that_runs(one, attempts)
    for feeds, reference in zip(used, expected, strict=True):
        for name, got, want in zip(names, two.run(feeds), reference, strict=True):
            pairs[name].append(difference(name, got, want, geometries.get(name)))
    shapes = tuple({name: array.shape for name, array in feeds.items()} for feeds in used)
    if tolerance is None:
        tolerance = _tolerance(before)
    whole = _worst([d for name in outputs for d in pairs[name]])
    each = {name: _worst(found) for name, found in pairs.items()}
    borders = [d.border_rms_relative for d in each.values() if d.border_rms_relative is not None]
    errors = [d.rms_relative for d in each.values()] + borders
    return Certificate(
        max_abs=whole.max_abs,
        rms_relative=whole.rms_relative,
        border_rms_relative=max(borders, default=None),
        tolerance=tolerance,
        inputs=shapes,
        passed=bool(np.isfinite(errors).all() and max(errors) <= tolerance),
        merges=tuple(each[m.output] for m in merges if m.output in each),
    )


def _first_that_runs(
    runner: _Runner, attempts: Sequence[Sequence[Feeds]]
) -> tuple[Sequence[Feeds], list[list[np.ndarray]]]:
    """Small images may vanish on the way; then larger ones are tried."""
    failure = ""
    for feeds in attempts:
        try:
            return feeds, [runner.run(one) for one in feeds]
        except (RuntimeException, InvalidArgument) as e:
            failure = str(e).splitlines()[0]
    raise InputError(f"the network does not run on random inputs: {failure}")


def difference(
    name: str,
    got: np.ndarray,
    want: np.ndarray,
    geometry: Geometry | None = None,
) -> Difference:
    """How far `got` is from `want`, inside and in the border ring."""
    if got.shape != want.shape:
        return Difference(name, float("inf"), float("inf"), None)
    got, want = got.astype(np.float64), want.astype(np.float64)
    ring = _ring(geometry, want.shape)
    largest = float(np.abs(got - want).max(initial=0.0))
    if ring is None:
        return Difference(name, largest, _relative(got, want), None)
    inside = _relative(got[..., ~ring], want[..., ~ring])
    return Difference(name, largest, inside, _relative(got[..., ring], want[..., ring]))


def _relative(got: np.ndarray, want: np.ndarray) -> float:
    scale = float(np.sqrt(np.mean(want**2))) if want.size else 0.0
    error = float(np.sqrt(np.mean((got - want) ** 2))) if want.size else 0.0
    return error / scale if scale else error


def _ring(geometry: Geometry | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """Output positions with a tap outside the input, for an input of about the right size."""
    if geometry is None or not geometry.rank or not geometry.padded:
        return None
    inside = np.ones(shape[2:], dtype=bool)
    for axis, (positions, kernel) in enumerate(zip(shape[2:], geometry.kernel, strict=True)):
        reach = geometry.dilations[axis] * (kernel - 1) + 1
        padding = geometry.pads[axis] + geometry.pads[axis + geometry.rank]
        length = (positions - 1) * geometry.strides[axis] + reach - padding
        if length < 1:
            return None
        clear = inside_taps(geometry, axis, length).all(axis=1)
        inside &= clear.reshape([-1 if a == axis else 1 for a in range(geometry.rank)])
    return ~inside if (~inside).any() else None


def _worst(found: Sequence[Difference]) -> Difference:
    borders = [d.border_rms_relative for d in found if d.border_rms_relative is not None]
    return Difference(
        found[0].value if found else "",
        max((d.max_abs for d in found), default=0.0),
        max((d.rms_relative for d in found), default=0.0),
        max(borders, default=None),
    )


def _tolerance(model: ir.Model) -> float:
    kinds = {str(v.dtype.numpy()) for v in model.graph.initializers.values() if v.dtype}
    return max((TOLERANCES[kind] for kind in kinds if kind in TOLERANCES), default=1e-5)


def _value_names(model: ir.Model) -> set[str]:
    return {v.name or "" for node in model.graph for v in node.outputs}


class _Runner:
    """A session that also returns inner values."""

    def __init__(self, model: ir.Model, names: Sequence[str]):
        model = model.clone()
        present = {value.name for value in model.graph.outputs}
        values = {v.name: v for node in model.graph for v in node.outputs}
        extra = [values[name] for name in names if name not in present]
        for value in extra:
            value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
        model.graph.outputs.extend(extra)
        self.names = list(names)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        self.session = _session(model, options)

    def run(self, feeds: Feeds) -> list[np.ndarray]:
        return [np.asarray(a) for a in self.session.run(self.names, dict(feeds))]


def _session(model: ir.Model, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    providers = ["CPUExecutionProvider"]
    held = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value)
    if held < IN_MEMORY_BYTES:
        content = ir.to_proto(model).SerializeToString()
        return onnxruntime.InferenceSession(content, options, providers=providers)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        ir.save(model, path, external_data="model.data")
        return onnxruntime.InferenceSession(path, options, providers=providers)


def draw_inputs(model: ir.Model, seed: int) -> list[list[dict[str, np.ndarray]]]:
    """Alternatives, smaller images first; each is one or two sets of inputs."""
    dynamic = any(
        not isinstance(size, int) for v in model.graph.inputs for size in list(v.shape or ())
    )
    attempts = []
    for even, odd in SIZES:
        sets = [(2, even, LENGTHS[0]), (1, odd, LENGTHS[1])] if dynamic else [(1, odd, LENGTHS[1])]
        attempts.append([_draw(model, seed + index, *one) for index, one in enumerate(sets)])
    return attempts if dynamic else attempts[:1]


def _draw(model: ir.Model, seed: int, batch: int, side: int, length: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.inputs:
        if value.name in model.graph.initializers:
            continue
        dims = list(value.shape or ())
        free = [batch if axis == 0 else side if len(dims) > 2 else length for axis in range(9)]
        shape = [d if isinstance(d, int) else free[axis] for axis, d in enumerate(dims)]
        feeds[value.name or ""] = _values(value, shape, generator)
    return feeds


def _values(value: ir.Value, shape: list[int], generator: np.random.Generator) -> np.ndarray:
    dtype = (value.dtype or ir.DataType.FLOAT).numpy()
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    if dtype.kind == "b":
        return np.ones(shape, dtype=bool)
    if re.search("mask", value.name or ""):
        return np.ones(shape, dtype=dtype)
    return generator.integers(0, max(_vocabulary(value), 1), shape).astype(dtype)


def _vocabulary(value: ir.Value) -> int:
    """How many rows the table has that this input looks things up in."""
    sizes = []
    for node in value.consumers():
        table = constant(node.inputs[0]) if node.op_type == "Gather" else None
        if table is not None:
            sizes.append(table.shape[0])
    return min(sizes, default=2)
