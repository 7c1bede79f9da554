"""What an ONNX file declares, read without the onnx package.

A board has numpy and one SDK, and a broken file must be refused in one sentence before any
SDK sees it, so the few protobuf fields that matter are walked here: inputs, outputs, precision
and external weights. Weights are stepped over, never read.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runtimes.errors import InputError

DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    16: "bfloat16",
}
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output as declared; a dimension is a size, a name, or None when unknown."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True, slots=True)
class Declared:
    """The facts of one ONNX file."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    precision: str
    operators: tuple[tuple[str, str], ...]  # (node name, operator type), in file order
    external: tuple[str, ...] = ()  # files beside it that hold weights


class _Truncated(Exception):
    """A field claims more bytes than there are."""


class _NotOnnx(Exception):
    """The bytes are no protobuf message, or one without a graph."""


def read_declared(path: Path) -> Declared:
    """Inputs, outputs, precision and operators of the file at `path`."""
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}: give the path of an ONNX file")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty, so it is not an ONNX file: export it again")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return _model(view, path)
    except PermissionError as e:
        raise InputError(f"{path} cannot be read ({e.strerror}): change its permissions") from e
    except _Truncated as e:
        raise InputError(
            f"{path} ends in the middle of a field after {path.stat().st_size} bytes: "
            "it is truncated; copy or export it again"
        ) from e
    except (_NotOnnx, UnicodeDecodeError) as e:
        raise InputError(f"{path} is not an ONNX file: export the network with torch.onnx") from e


def sha256(path: Path) -> str:
    """SHA-256 of the file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def content_sha256(path: Path, external: tuple[str, ...]) -> str:
    """SHA-256 of what is computed: the file's own, or of the list of it and its weights' files."""
    own = sha256(path)
    if not external:
        return own
    listed = [own, *(f"{sha256(path.parent / name)}  {name}" for name in external)]
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()


def one_node_model() -> bytes:
    """y = Relu(x) with x of shape (1, 4): the smallest proof that a provider runs."""
    dims = b"".join(_tagged(1, _number(1, size)) for size in (1, 4))
    tensor = _tagged(1, _number(1, 1) + _tagged(2, dims))
    node = _tagged(1, b"x") + _tagged(2, b"y") + _tagged(3, b"relu") + _tagged(4, b"Relu")
    graph = _tagged(1, node) + _tagged(2, b"one_node")
    graph += _tagged(11, _tagged(1, b"x") + _tagged(2, tensor))
    graph += _tagged(12, _tagged(1, b"y") + _tagged(2, tensor))
    return _number(1, 8) + _tagged(7, graph) + _tagged(8, _tagged(1, b"") + _number(2, 17))


def _tagged(field: int, payload: bytes) -> bytes:
    assert len(payload) < 128, "one length byte"
    return bytes([field << 3 | BYTES, len(payload)]) + payload


def _number(field: int, value: int) -> bytes:
    assert value < 128, "one value byte"
    return bytes([field << 3 | VARINT, value])


def _model(view: mmap.mmap, path: Path) -> Declared:
    graph = None
    for field, wire, start, end in _fields(view, 0, len(view), strict=True):
        if field == 7 and wire == BYTES:
            graph = (start, end)
    if graph is None:
        raise _NotOnnx("no graph")
    inputs, outputs, operators = [], [], []
    external: set[str] = set()
    weights: dict[str, str] = {}  # name -> dtype
    for field, wire, start, end in _fields(view, *graph):
        if wire != BYTES:
            continue
        if field == 1:
            operators.append((_text(view, start, end, 3), _text(view, start, end, 4)))
        elif field == 5:
            external |= _external(view, start, end, path)
            weights[_text(view, start, end, 8)] = _dtype(_integer(view, start, end, 2))
        elif field == 11:
            inputs.append(_port(view, start, end))
        elif field == 12:
            outputs.append(_port(view, start, end))
    return Declared(
        inputs=tuple(port for port in inputs if port.name not in weights),
        outputs=tuple(outputs),
        precision=_precision({kind for _, kind in operators}, set(weights.values())),
        operators=tuple(operators),
        external=tuple(sorted(external)),
    )


def _precision(kinds: set[str], dtypes: set[str]) -> str:
    if any("QuantizeLinear" in kind or "Integer" in kind for kind in kinds):
        return "int8"
    for dtype, name in (("bfloat16", "bf16"), ("float16", "fp16")):
        if dtype in dtypes:
            return name
    return "fp64" if "float64" in dtypes and "float32" not in dtypes else "fp32"


def _port(view: mmap.mmap, start: int, end: int) -> Port:
    dtype, shape = "unknown", []
    for kind in _inside(view, start, end, 2):
        for tensor in _inside(view, *kind, 1):
            dtype = _dtype(_integer(view, *tensor, 1))
            for dims in _inside(view, *tensor, 2):
                for dim in _inside(view, *dims, 1):
                    size = _integer(view, *dim, 1)
                    shape.append(size if size > 0 else _text(view, *dim, 2) or None)
    return Port(_text(view, start, end, 1), dtype, tuple(shape))


def _external(view: mmap.mmap, start: int, end: int, path: Path) -> set[str]:
    """Where one tensor's weights are, if not in the file itself."""
    found = set()
    for entry in _inside(view, start, end, 13):
        if _text(view, *entry, 1) == "location":
            weights = path.parent / _text(view, *entry, 2)
            if not weights.is_file():
                raise InputError(
                    f"{path} keeps weights in {weights.name}, which is not beside it: copy both"
                )
            found.add(_text(view, *entry, 2))
    return found


def _dtype(code: int) -> str:
    return DTYPES.get(code, f"type {code}")


def _inside(view: mmap.mmap, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    for field, wire, at, until in _fields(view, start, end):
        if field == wanted and wire == BYTES:
            yield at, until


def _text(view: mmap.mmap, start: int, end: int, wanted: int) -> str:
    return "".join(view[at:until].decode() for at, until in _inside(view, start, end, wanted))


def _integer(view: mmap.mmap, start: int, end: int, wanted: int) -> int:
    for field, wire, at, _ in _fields(view, start, end):
        if field == wanted and wire == VARINT:
            return _varint(view, at, end)[0]
    return 0


def _fields(
    view: mmap.mmap, start: int, end: int, strict: bool = False
) -> Iterator[tuple[int, int, int, int]]:
    """(field, wire type, payload start, payload end) of each field of one message."""
    at = start
    while at < end:
        key, at = _varint(view, at, end)
        field, wire = key >> 3, key & 7
        if strict and not 1 <= field <= 30:  # ModelProto's own numbers: text fails here
            raise _NotOnnx(f"field {field}")
        if wire == VARINT:
            until = _varint(view, at, end)[1]
        elif wire == BYTES:
            size, at = _varint(view, at, end)
            until = at + size
        elif wire in (FIXED64, FIXED32):
            until = at + (8 if wire == FIXED64 else 4)
        else:
            raise _NotOnnx(f"wire type {wire}")
        if until > end:
            raise _Truncated if start == 0 and field in (7, 8, 14) else _NotOnnx
        yield field, wire, at, until
        at = until


def _varint(view: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= end:
            raise _Truncated
        if shift > 63:
            raise _NotOnnx("varint longer than ten bytes")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
