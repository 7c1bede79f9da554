"""An ONNX file as an `onnx_ir.Model`, or one `InputError` that says what is wrong with it.

What is promised afterwards: the file passed onnx's checker, functions are inlined, constants are
initialisers, every node has a name of its own, and every value has the shape that can be inferred.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError
from onnx_ir.passes import common as passes

from pipeline.graphs.constants import ELEMENTS
from runtimes.errors import InputError

OLDEST_OPSET, NEWEST_OPSET = 13, 24
ASSUMED_PIXELS = 64  # for each dynamic side of an image
PROTOBUF_LIMIT_BYTES = 2**31 - 1


def load_model(path: str | Path) -> ir.Model:
    """Read, check and normalise an ONNX file."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; give the path of an ONNX file")
    if not path.is_file():
        raise InputError(f"{path} is a folder; give the path of an ONNX file in it")
    if path.stat().st_size > PROTOBUF_LIMIT_BYTES:
        raise InputError(
            f"{path} is over 2 GiB, which protobuf cannot hold; save it with external data"
        )
    try:
        model = ir.load(path)
    except (DecodeError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise InputError(f"{path} is not an ONNX file, or a truncated one; export it again") from e
    except OSError as e:
        raise InputError(f"{path} cannot be read: {e.strerror or e}") from e
    if not len(model.graph) or not model.graph.outputs:
        raise InputError(f"{path} holds no network (no node or no output); export it again")
    _check_opset(model, path)
    _check_external(model, path)
    _check(path)
    return normalise(model)


def normalise(model: ir.Model) -> ir.Model:
    """In place: what every analysis here relies on, whatever made the model."""
    if model.functions:
        passes.InlinePass()(model)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    _name_nodes(model)
    if any(value.shape is None for node in model.graph for value in node.outputs):
        passes.ShapeInferencePass()(model)
    if any(_is_dynamic_image(value) for value in model.graph.inputs):
        _count_elements(model)
    return model


def _is_dynamic_image(value: ir.Value) -> bool:
    shape = value.shape
    return shape is not None and len(shape) > 3 and not all(isinstance(d, int) for d in shape[1:])


def _count_elements(model: ir.Model) -> None:
    """Sizes for one image of `ASSUMED_PIXELS`, so that a stride counts in what a merge costs."""
    sized = model.clone()
    for value in sized.graph.inputs:
        if value.shape is not None:
            pixels = ASSUMED_PIXELS if len(value.shape) > 3 else 1
            sizes = [1 if axis == 0 else pixels for axis in range(len(value.shape))]
            given = zip(value.shape, sizes, strict=True)
            value.shape = ir.Shape([d if isinstance(d, int) else size for d, size in given])
    for node in sized.graph:
        for value in node.outputs:
            value.shape = None
    passes.ShapeInferencePass()(sized)
    counts = {
        value.name: prod(value.shape.numpy())
        for node in sized.graph
        for value in node.outputs
        if value.shape is not None and value.shape.is_static()
    }
    for node in model.graph:
        for value in node.outputs:
            if value.name in counts:
                value.meta[ELEMENTS] = counts[value.name]


def opset_of(model: ir.Model) -> int:
    return model.opset_imports.get("", model.opset_imports.get("ai.onnx", 0))


def _check_opset(model: ir.Model, path: Path) -> None:
    opset = opset_of(model)
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise InputError(
            f"{path} has opset {opset}; supported are {OLDEST_OPSET} to {NEWEST_OPSET}: "
            "export it again with one of them"
        )


def _check_external(model: ir.Model, path: Path) -> None:
    folder = path.resolve().parent
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if not isinstance(tensor, ir.ExternalTensor):
            continue
        location = (folder / tensor.location).resolve()
        if not location.is_relative_to(folder):
            raise InputError(
                f"{path}: the data of {name!r} is said to be at {tensor.location!r}, outside the "
                "model's folder; move the file beside the model and save it again"
            )
        size = (tensor.offset or 0) + (tensor.length or tensor.nbytes)
        if not location.is_file() or location.stat().st_size < size:
            raise InputError(
                f"{path}: the data of {name!r} is missing or too short in {tensor.location!r}; "
                "copy that file beside the model"
            )


def _check(path: Path) -> None:
    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, RuntimeError, ValueError) as e:
        reason = str(e).strip().splitlines()[0].rstrip(".")
        raise InputError(f"{path} is not a valid ONNX model: {reason}") from e


def _name_nodes(model: ir.Model) -> None:
    """A node's name is how sites, segments and plans refer to it, so it has to be its own."""
    seen: set[str] = set()
    for index, node in enumerate(model.graph):
        name = node.name or f"{node.op_type}_{index}"
        while name in seen:
            name = f"{name}_{index}"
        node.name = name
        seen.add(name)
