"""In which precision a network is really computed, by what its runtime says of each operator.

A file's precision is a promise. ONNX Runtime's CPU kernels compute an fp16 graph in fp32, and every
Q/DQ pair that it cannot fuse costs time around an fp32 operator; OpenVINO goes by a hint. What is
told is the narrowest precision of the operators with weights, where nearly all of the time goes.
"""

from __future__ import annotations

from collections.abc import Iterable

from runtimes.base import Layer

NARROWNESS = ("fp4", "int4", "fp8", "int8", "bf16", "fp16", "fp32", "fp64")
OF_TYPE = {  # the names of tensor types in ONNX Runtime and in OpenVINO
    "float": "fp32", "f32": "fp32", "float16": "fp16", "f16": "fp16", "bfloat16": "bf16",
    "bf16": "bf16", "double": "fp64", "f64": "fp64", "int8": "int8", "i8": "int8",
    "uint8": "int8", "u8": "int8", "int4": "int4", "uint4": "int4", "i4": "int4", "u4": "int4",
}  # fmt: skip
WITH_WEIGHTS = ("conv", "gemm", "matmul", "fullyconnected", "attention")


def computed_in(layers: Iterable[Layer]) -> str | None:
    """The narrowest precision of the operators with weights, or of all where there are none."""
    known = [layer for layer in layers if layer.precision]
    weighted = [layer for layer in known if any(k in layer.kind.lower() for k in WITH_WEIGHTS)]
    found = {layer.precision for layer in weighted or known}
    return next((name for name in NARROWNESS if name in found), None)
