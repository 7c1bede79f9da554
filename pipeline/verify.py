"""Is the collapsed network, on a runtime, still the fine-tuned torch model?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from pipeline.datasets import Split
from pipeline.networks.tokens import arguments
from profiles.target import Target
from runtimes import base
from runtimes.onnx_file import Port

CHUNK = 500


@dataclass(frozen=True, slots=True)
class Parity:
    """Logits of a runtime against torch's on the same images or texts.

    `max_relative` is the largest absolute difference over the largest absolute logit.
    """

    target: str
    images: int
    max_abs: float
    max_relative: float
    top1_agreement: float
    accuracy: float
    tolerance: float
    passed: bool


def verify(
    path: Path, target: Target, expected: Tensor, split: Split, *, tolerance: float
) -> Parity:
    """Run `split` through the target's runtime here; `expected` is (n, classes) from torch."""
    found = run(path, target, split.images)
    reference = expected.numpy()
    max_abs = float(np.abs(found - reference).max())
    max_relative = max_abs / float(np.abs(reference).max())
    agreement = float((found.argmax(1) == reference.argmax(1)).mean())
    accuracy = float((found.argmax(1) == split.labels.numpy()).mean())
    passed = bool(np.isfinite(found).all()) and max_relative <= tolerance
    return Parity(
        target.name, len(split), max_abs, max_relative, agreement, accuracy, tolerance, passed
    )


def run(path: Path, target: Target, samples: Tensor) -> np.ndarray:
    """The first output (n, classes) for all samples, in chunks of one loaded batch each."""
    runtime = base.make(target.runtime, target.device, target.settings)
    outputs = []
    for chunk in samples.split(CHUNK):
        arrays = [np.ascontiguousarray(x.numpy()) for x in arguments(chunk)]

        def inputs(
            ports: tuple[Port, ...], arrays: Sequence[np.ndarray] = arrays
        ) -> Mapping[str, np.ndarray]:
            return {port.name: array for port, array in zip(ports, arrays, strict=True)}

        session = runtime.load(path, threads=target.threads, inputs=inputs)
        session.run()
        outputs.append(next(iter(session.outputs().values())))
        session.close()
    return np.concatenate(outputs)
