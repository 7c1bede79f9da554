"""One ONNX file in other precisions; nobody says what is right, so there is no accuracy."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.graphs.precision import Activations, Arrays, activations_for, make
from pipeline.verbs.export_document import ExportDocument, exported_row, fp32_row, refused_row
from pipeline.verbs.variants import REFERENCE, Variant, check, file_name, those_here
from profiles.target import Target, find_target
from runtimes.base import Precision
from runtimes.errors import InputError
from runtimes.inputs import seeded
from runtimes.onnx_file import read_declared

UNLABELLED = 64  # seeded samples that a file is checked on


def export_file(
    path: Path,
    precisions: Sequence[Precision],
    *,
    targets: Sequence[str],
    samples: Path | None,
    folder: Path | None,
) -> ExportDocument:
    """Beside the file, if no folder is given; `samples` calibrate int8 and check the rest."""
    declared = read_declared(path)
    devices = [find_target(name) for name in targets or (REFERENCE,)]
    arrays = read_samples(samples) if samples else None
    folder = folder or path.parent
    if not folder.is_dir():
        raise InputError(f"--out {str(folder)!r} is no folder: make it, or give another one")
    found, refused = [], []
    if "fp32" in precisions:
        if declared.precision != "fp32":
            raise InputError(f"{path} is {declared.precision}; give the file that it was made from")
        found.append(fp32_row(path.stem, path, ()))
    for precision in precisions:
        forms = activations_for(devices) if precision == "int8" else ("uint8",)
        for form in forms if precision != "fp32" else ():
            made = _variant(path, precision, form, folder, devices, arrays)
            if made.passed:
                found.append(exported_row(path.stem, made))
            else:
                refused.append(refused_row(path.stem, made))
    return ExportDocument(
        source=str(path), artifacts=tuple(found), refused=tuple(refused), missing={}
    )


def _variant(
    source: Path,
    precision: Precision,
    form: Activations,
    folder: Path,
    targets: Sequence[Target],
    samples: Arrays | None,
) -> Variant:
    with tempfile.TemporaryDirectory(dir=folder, prefix=".shoal-") as aside:
        draft = Path(aside) / "variant.onnx"
        made = make(source, precision, draft, calibration=samples, activations=form)
        inputs = samples or _noise(source)
        parity = tuple(
            check(draft, source, precision, target, inputs, None) for target in those_here(targets)
        )
        path = folder / file_name(source.stem, precision, form)
        if all(one.passed for one in parity):
            draft.replace(path)
    return Variant(made, precision, path, parity)


def _noise(source: Path) -> Arrays:
    """Enough to tell two precisions apart, where nobody gave real samples."""
    ports = read_declared(source).inputs
    for port in ports:
        if not all(isinstance(size, int) for size in port.shape[1:]):
            raise InputError(
                f"input {port.name!r} of {source} is {port.shape}: give samples of it with "
                "--calibration, whose size it then has"
            )
    fixed = [size for port in ports for size in port.shape[:1] if isinstance(size, int)]
    return seeded(batch=max(fixed, default=UNLABELLED))(ports)


def read_samples(path: Path) -> Arrays:
    """Arrays by input name, samples along the first axis, from an .npz file."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, AttributeError, TypeError) as e:
        raise InputError(
            f"{path} holds no calibration data ({e}): give an .npz with one array per input, "
            "numpy.savez('samples.npz', image=...)"
        ) from e
