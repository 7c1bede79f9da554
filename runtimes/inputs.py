"""Inputs for a measurement: seeded noise of the declared shapes, or given arrays.

Latency hardly depends on the values, but zeros and denormals are a special case on many
devices, so the noise is standard normal; integers are small and non-negative, as indices are,
and a mask of integers is all ones: nothing is padded.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from runtimes.base import Arrays, Inputs
from runtimes.errors import InputError
from runtimes.onnx_file import Port


def seeded(
    *, batch: int, seed: int = 0, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Inputs:
    """Noise: a dynamic first dimension becomes `batch`, any other must be in `shapes`."""

    def fill(ports: tuple[Port, ...]) -> Arrays:
        noise = np.random.default_rng(seed)
        sizes = {port.name: concrete_shape(port, batch, shapes or {}) for port in ports}
        return {port.name: _noise(noise, port, sizes[port.name]) for port in ports}

    return fill


def given(arrays: Arrays) -> Inputs:
    """These arrays and no others."""

    def fill(ports: tuple[Port, ...]) -> Arrays:
        declared = {port.name for port in ports}
        if declared != set(arrays):
            raise InputError(
                f"inputs given: {', '.join(sorted(arrays)) or 'none'}; "
                f"the network declares: {', '.join(sorted(declared)) or 'none'}"
            )
        return {name: np.ascontiguousarray(array) for name, array in arrays.items()}

    return fill


def concrete_shape(
    port: Port, batch: int, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[int, ...]:
    """The shape to run with; what only the user can know is asked for."""
    if port.name in shapes:
        return _agreed(port, shapes[port.name])
    shape: list[int] = []
    for axis, size in enumerate(port.shape):
        if isinstance(size, int):
            shape.append(size)
        elif axis == 0:
            shape.append(batch)
        else:
            raise InputError(
                f"dimension {axis} ({size or 'unnamed'}) of input {port.name!r} is dynamic: "
                f"give its shape, e.g. --shape {port.name}={_example(port, batch)}"
            )
    if len(shape) > 1 and shape[0] != batch:
        raise InputError(
            f"input {port.name!r} has a fixed batch of {shape[0]}, not {batch}: "
            f"give --batch {shape[0]} or, to a verb without it, a target whose file says so, or "
            f"export the network with a batch of {batch}"
        )
    return tuple(shape)


def _agreed(port: Port, shape: tuple[int, ...]) -> tuple[int, ...]:
    fixed = [size for size in zip(port.shape, shape, strict=False) if isinstance(size[0], int)]
    if len(shape) != len(port.shape) or any(mine != yours for mine, yours in fixed):
        raise InputError(f"input {port.name!r} is declared {port.shape}, the shape given {shape}")
    return shape


def _example(port: Port, batch: int) -> str:
    sizes = (size if isinstance(size, int) else batch if axis == 0 else 224
             for axis, size in enumerate(port.shape))  # fmt: skip
    return "x".join(str(size) for size in sizes)


def _noise(noise: np.random.Generator, port: Port, shape: tuple[int, ...]) -> np.ndarray:
    dtype = port.dtype
    if dtype == "bool":
        return noise.integers(0, 2, shape).astype(bool)
    try:
        kind = np.dtype(dtype)
    except TypeError as e:
        raise InputError(f"inputs of type {dtype} cannot be made by numpy: cast them") from e
    if kind.kind in "iu":
        return (
            np.ones(shape, kind)
            if "mask" in port.name
            else noise.integers(0, 2, shape).astype(kind)
        )
    return noise.standard_normal(shape).astype(kind)
