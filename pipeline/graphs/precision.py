"""A network in fp16 or int8 as a transform of its fp32 graph, so that every runtime sees the same.

TensorRT 11 has no flags for precision and the others ignore a file's name: what counts is in the
graph. fp16: weights and tensors are half precision, except around the operators of `STAY_FP32`;
inputs and outputs stay fp32. int8: Q/DQ pairs, weights per channel and symmetric, ranges of the
activations from calibration data run through *this* graph: after a merge they are other ranges.

Activations have two forms, because no single one is fast everywhere. With unsigned and asymmetric
ones ONNX Runtime on a CPU fuses every operator (a rectifier is the zero point itself) and leaves
half of them in fp32 with the symmetric ones that TensorRT insists on. Weights beside unsigned
activations take 7 bits, or a CPU without VNNI saturates where another does not.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common as passes
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_static,
)
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from pipeline.graphs.loading import load_model
from profiles.target import Target
from runtimes.base import PRECISIONS, Artifact, Precision
from runtimes.errors import InputError
from runtimes.onnx_file import Port, read_declared, sha256

Activations = Literal["uint8", "int8"]
STAY_FP32 = (  # what sums many terms or leaves fp16's range of 6e-5 to 65504, and what lacks fp16
    "Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization", "InstanceNormalization",
    "GroupNormalization", "ReduceMean", "ReduceSum", "ReduceL2", "ReduceSumSquare", "Exp", "Log",
    "Pow", *DEFAULT_OP_BLOCK_LIST,
)  # fmt: skip
HALF_MAX = float(np.finfo(np.float16).max)
WITH_WEIGHTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
BETWEEN = (  # what passes eight bits through, so that no operator with weights has to leave them
    "Add", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Reshape",
    "Flatten", "Transpose", "Squeeze", "Unsqueeze",
)  # fmt: skip
CALIBRATION_BATCH = 64

Arrays = Mapping[str, np.ndarray]  # by input, samples along the first axis


@dataclass(frozen=True, slots=True)
class Made:
    """An artifact and what of it still computes in fp32: operator type -> how many."""

    artifact: Artifact
    activations: Activations | None
    kept_fp32: Mapping[str, int]


def parse_precisions(texts: Sequence[str]) -> tuple[Precision, ...]:
    """Each once, from wide to narrow."""
    for text in texts:
        if text not in PRECISIONS:
            raise InputError(f"no precision {text!r}; there are: {', '.join(PRECISIONS)}")
    return tuple(precision for precision in PRECISIONS if precision in texts)


def activations_for(targets: Iterable[Target]) -> tuple[Activations, ...]:
    """The forms of int8 that these targets need."""
    symmetric = {
        t.runtime == "trt" or t.device.lower().partition(":")[0] in ("cuda", "tensorrt")
        for t in targets
    }
    unsigned: tuple[Activations, ...] = ("uint8",) if False in symmetric else ()
    return (*unsigned, "int8") if True in symmetric else unsigned


def make(
    source: Path,
    precision: Precision,
    path: Path,
    *,
    calibration: Arrays | None = None,
    activations: Activations = "uint8",
) -> Made:
    """Write `source`, an fp32 file, in that precision to `path`, whole or not at all."""
    declared = read_declared(source)
    if declared.precision != "fp32":
        raise InputError(
            f"{source} is {declared.precision}, and {precision} is made of an fp32 network: "
            "give the file that it was made from"
        )
    if precision == "fp32":
        raise InputError(f"{source} is fp32 as it is; there is fp16 and int8 to make of it")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".shoal-") as folder:
        draft = Path(folder) / "network.onnx"
        ir.save(load_model(source), draft)
        if precision == "fp16":
            kept, form = _halve(draft, source), None
        else:
            samples = _checked(calibration, declared.inputs, source)
            kept, form = _quantise(draft, source, samples, activations), activations
        draft.replace(path)
    return Made(Artifact.of(path, batch=1, parent=sha256(source)), form, kept)


def _halve(draft: Path, source: Path) -> dict[str, int]:
    model = onnx.load(draft)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            largest = np.abs(onnx.numpy_helper.to_array(tensor)).max(initial=0)
            if not largest <= HALF_MAX:
                raise InputError(
                    f"{source}: {tensor.name!r} goes up to {largest:.3g}, and fp16 ends at "
                    f"{HALF_MAX:.5g}: leave this network in fp32"
                )
    _write(
        convert_float_to_float16(model, keep_io_types=True, op_block_list=list(STAY_FP32)), draft
    )
    if read_declared(draft).precision != "fp16":
        raise InputError(f"{source} has no weights that fp16 could hold: leave it in fp32")
    kept = Counter(node.op_type for node in model.graph.node if node.op_type in STAY_FP32)
    return dict(sorted(kept.items()))


def _quantise(
    draft: Path, source: Path, samples: Arrays, activations: Activations
) -> dict[str, int]:
    symmetric = activations == "int8"
    prepared = draft.with_name("prepared.onnx")
    with _no_advice():
        try:
            quant_pre_process(str(draft), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                prepared,
                draft,
                _Reader(samples, read_declared(prepared).inputs),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=[*WITH_WEIGHTS, *(() if symmetric else BETWEEN)],
                per_channel=True,
                reduce_range=not symmetric,
                activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options={
                    "ActivationSymmetric": symmetric,
                    "WeightSymmetric": True,
                    "MatMulConstBOnly": True,
                    "QuantizeBias": not symmetric,  # TensorRT adds a bias in fp32
                    # behind a convolution TensorRT wants its rectifier, not a pair
                    "OpTypesToExcludeOutputQuantization": list(WITH_WEIGHTS) if symmetric else [],
                },
            )
        except Exception as e:  # the library raises whatever its parts do
            reason = str(e).strip().splitlines()
            raise InputError(
                f"{source} cannot be quantised: {reason[0] if reason else type(e).__name__}"
            ) from e
    model = onnx.load(draft)
    _write(model, draft)
    pairs = {out for n in model.graph.node if n.op_type == "DequantizeLinear" for out in n.output}
    if not any(pairs & set(n.input) for n in model.graph.node if n.op_type in WITH_WEIGHTS):
        raise InputError(
            f"{source} has nothing to quantise: int8 is for {', '.join(WITH_WEIGHTS)} with "
            "constant weights"
        )
    kept = Counter(
        node.op_type
        for node in model.graph.node
        if "quantizelinear" not in node.op_type.lower() and not pairs & set(node.input)
    )
    return dict(sorted(kept.items()))


class _Reader(CalibrationDataReader):
    """The samples in batches, or one by one where the network has a fixed batch."""

    def __init__(self, samples: Arrays, ports: tuple[Port, ...]):
        fixed = [size for port in ports for size in port.shape[:1] if isinstance(size, int)]
        self._batches = _batches(samples, max(fixed, default=CALIBRATION_BATCH), whole=bool(fixed))

    # None ends the samples, which the library asks for and its annotation leaves out
    def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]
        return next(self._batches, None)


def _batches(samples: Arrays, size: int, *, whole: bool) -> Iterator[dict[str, np.ndarray]]:
    count = len(next(iter(samples.values())))
    for start in range(0, count - size + 1 if whole else count, size):
        yield {name: array[start : start + size] for name, array in samples.items()}


def _checked(calibration: Arrays | None, ports: tuple[Port, ...], source: Path) -> Arrays:
    """Calibration data are real samples of every input, or ranges would be of something else."""
    if not calibration:
        raise InputError(
            f"int8 of {source} needs calibration data: samples of "
            f"{', '.join(repr(port.name) for port in ports)}, as the network gets them in use"
        )
    if set(calibration) != {port.name for port in ports}:
        raise InputError(
            f"calibration data are for {', '.join(sorted(calibration))}; {source} takes "
            f"{', '.join(sorted(port.name for port in ports))}"
        )
    counts = {len(array) for array in calibration.values()}
    if len(counts) != 1 or not min(counts):
        raise InputError(f"calibration data are {sorted(counts)} samples per input: equally many "
                         "of each, and at least one")  # fmt: skip
    for port in ports:
        _fits(port, calibration[port.name], source)
    return calibration


def _fits(port: Port, array: np.ndarray, source: Path) -> None:
    sizes = zip(port.shape[1:], array.shape[1:], strict=False)
    agree = all(not isinstance(mine, int) or mine == yours for mine, yours in sizes)
    if array.ndim != len(port.shape) or not agree or array.dtype != np.dtype(port.dtype):
        raise InputError(
            f"calibration data of {port.name!r} are {array.dtype} {array.shape}; {source} takes "
            f"{port.dtype} {port.shape}"
        )
    fixed = port.shape[0] if port.shape else None
    if isinstance(fixed, int) and len(array) < fixed:
        raise InputError(f"{source} has a fixed batch of {fixed}, and there are {len(array)} "
                         "calibration samples: give as many at least")  # fmt: skip
    if not np.isfinite(array).all():
        raise InputError(f"calibration data of {port.name!r} hold NaN or infinity")


def _write(model: onnx.ModelProto, path: Path) -> None:
    """In order, and without the domains that ONNX Runtime adds: TensorRT's parser reads all."""
    network = ir.from_proto(model)
    passes.TopologicalSortPass()(network)
    passes.RemoveUnusedOpsetsPass()(network)
    ir.save(network, path)
    onnx.checker.check_model(str(path), full_check=True)


@contextmanager
def _no_advice() -> Iterator[None]:
    """The quantiser tells the root logger what it would have liked."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
