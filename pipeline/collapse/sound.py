"""Weights that no merge could make sense of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from runtimes.errors import InputError


def check_sound(model: ir.Model, path: Path) -> None:
    """No NaN or infinite weight, no operator without elements, no input of size zero."""
    for value in model.graph.inputs:
        if value.shape is not None and any(size == 0 for size in value.shape):
            raise InputError(f"{path}: input {value.name!r} has shape {value.shape}, no element")
    for node in model.graph:
        if node.op_type not in {"Conv", "Gemm", "MatMul", "BatchNormalization"}:
            continue
        for value in node.inputs[1:]:
            tensor = value.const_value if value is not None else None
            if value is None or tensor is None or not tensor.dtype.is_floating_point():
                continue
            if tensor.size == 0:
                raise InputError(f"{path}: {value.name!r} of {node.name} has no element")
            if not np.isfinite(tensor.numpy()).all():
                raise InputError(
                    f"{path}: {value.name!r} of {node.name} holds NaN or infinity; "
                    "export the network from a training that did not diverge"
                )
