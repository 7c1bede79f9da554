"""What TensorRT built, read off the engine inspector: the precision of each layer.

A flag or a file name says what was asked for. TensorRT 10 writes a tensor's type into
"Format/Datatype" ("Half", or "Channel major FP16 format where channel % 8 == 0"), TensorRT 11
splits that field into "Format" and "DataType"; without detailed verbosity a layer is its name
and nothing more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The first that a description contains names its precision: the narrowest first.
PRECISIONS = (
    ("fp4", r"\bfp4\b|e2m1"),
    ("int4", r"\bint4\b"),
    ("fp8", r"\bfp8\b|e4m3"),
    ("int8", r"\bu?int8\b"),
    ("bf16", r"\bbf16\b|bfloat16"),
    ("fp16", r"\bfp16\b|\bhalf\b|\bfloat16\b"),
    ("fp32", r"\bfp32\b|\bfloat\b|\bfloat32\b"),
)
NARROWNESS = tuple(name for name, _ in PRECISIONS)
MOVES_ONLY = ("reformat", "constant", "noop", "cast", "shuffle", "signal", "wait")


@dataclass(frozen=True, slots=True)
class Inspected:
    """One layer of an engine; its precision is None where the inspector does not say."""

    name: str
    kind: str
    precision: str | None


def read_inspection(text: str) -> tuple[Inspected, ...]:
    """The layers in the inspector's JSON; none when it is no JSON (some names break it)."""
    try:
        layers = json.loads(text).get("Layers", [])
    except (ValueError, AttributeError):
        return ()
    return tuple(_layer(layer) for layer in layers)


def narrowest(layers: tuple[Inspected, ...]) -> str | None:
    """The narrowest precision that any layer computes in; None when no layer says."""
    found = {layer.precision for layer in layers if not moves_only(layer)} - {None}
    return next((name for name in NARROWNESS if name in found), None)


def moves_only(layer: Inspected) -> bool:
    """It changes the layout or type of a tensor, so its precision is nobody's arithmetic."""
    return layer.kind.lower().startswith(MOVES_ONLY)


def _layer(layer: str | Mapping[str, Any]) -> Inspected:
    if isinstance(layer, str):
        return Inspected(layer, "", None)
    weights = layer.get("Weights")
    said = _precision(str(weights.get("Type", ""))) if isinstance(weights, Mapping) else None
    tensors = [*layer.get("Inputs", []), *layer.get("Outputs", [])]
    types = {_precision(_type(tensor)) for tensor in tensors if isinstance(tensor, Mapping)}
    tensor = next((name for name in NARROWNESS if name in types), None)
    return Inspected(str(layer.get("Name", "")), str(layer.get("LayerType", "")), said or tensor)


def _type(tensor: Mapping[str, Any]) -> str:
    fields = {"".join(filter(str.isalpha, name)).lower(): value for name, value in tensor.items()}
    return " ".join(str(fields.get(name, "")) for name in ("formatdatatype", "datatype", "format"))


def _precision(description: str) -> str | None:
    words = description.lower()
    return next((name for name, pattern in PRECISIONS if re.search(pattern, words)), None)
