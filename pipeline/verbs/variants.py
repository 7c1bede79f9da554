"""An artifact in the precisions that are asked for, each held against the fp32 file it is made of.

Two things can go wrong and are judged apart: outputs move (the largest difference over the largest
fp32 output, by `TOLERANCES`), and decisions change (accuracy on the validation split, by
`ACCURACY_LOSS`). fp16 is at most rounding; int8 moves every logit a little by design, so there the
accuracy is what decides and the tolerance only catches ranges that are wrong altogether.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter
from torch import Tensor

from pipeline.graphs.precision import Activations, Arrays, Made, activations_for, make
from pipeline.jobs.job import Job, write_bytes
from pipeline.reporting.documents import VariantParity
from pipeline.verify import CHUNK
from profiles.target import Target, find_target
from runtimes import base
from runtimes.base import Precision
from runtimes.errors import InputError
from runtimes.inputs import given
from runtimes.onnx_file import read_declared, sha256

TOLERANCES = {"fp16": 2e-2, "int8": 0.25}  # of the largest output
ACCURACY_LOSS = {"fp16": 0.005, "int8": 0.02}  # fractions of the validation images
REFERENCE = "x86-cpu"


MADE = TypeAdapter(Made)
PARITY: TypeAdapter[tuple[VariantParity, ...]] = TypeAdapter(tuple[VariantParity, ...])


@dataclass(frozen=True, slots=True)
class Variant:
    """`path` is among the artifacts if every check passed, in its stage's folder otherwise."""

    made: Made
    precision: Precision
    path: Path
    parity: tuple[VariantParity, ...]

    @property
    def passed(self) -> bool:
        return all(one.passed for one in self.parity)


def variants(
    job: Job, source: Path, name: str, precisions: Sequence[Precision], targets: Sequence[Target]
) -> list[Variant]:
    """Every precision but fp32; int8 in each form that the targets need."""
    found = []
    for precision in precisions:
        if precision == "fp32":
            continue
        forms = activations_for(targets) if precision == "int8" else ("uint8",)
        for form in forms:
            file = file_name(name, precision, form)
            found.append(_variant(job, source, file, precision, form, targets))
    return found


def file_name(name: str, precision: Precision, activations: Activations) -> str:
    return f"{name}-{precision}{'-symmetric' if activations == 'int8' else ''}.onnx"


def _variant(
    job: Job,
    source: Path,
    file: str,
    precision: Precision,
    activations: Activations,
    targets: Sequence[Target],
) -> Variant:
    checkers = those_here(targets)
    key = {
        "source": sha256(source),
        "precision": precision,
        "activations": activations,
        "images": len(job.calibration),
        "data": job.splits.sha256(),
        "targets": [asdict(target) for target in checkers],
    }

    def produce(folder: Path) -> None:
        samples = by_input(source, job.calibration) if precision == "int8" else None
        path = folder / "variant.onnx"
        made = make(source, precision, path, calibration=samples, activations=activations)
        validation = job.splits.validation
        arrays, labels = by_input(source, validation.images), validation.labels.numpy()
        parity = [check(path, source, precision, t, arrays, labels) for t in checkers]
        write_bytes(folder / "made.json", MADE.dump_json(made, indent=2))
        write_bytes(folder / "parity.json", PARITY.dump_json(tuple(parity), indent=2))

    folder = job.workspace.stage("variant", key, produce)
    made = MADE.validate_json((folder / "made.json").read_bytes())
    parity = PARITY.validate_json((folder / "parity.json").read_bytes())
    path = folder / "variant.onnx"
    if all(one.passed for one in parity):
        path = job.workspace.deliver(path, file)
    return Variant(made, precision, path, parity)


def those_here(targets: Sequence[Target]) -> list[Target]:
    """The targets whose runtime can be asked on this machine, or else the reference."""
    here = [t for t in targets if t.transport == "local" and t.runtime != "null"]
    return here or [find_target(REFERENCE)]


def by_input(source: Path, samples: Tensor) -> Arrays:
    """Images for the one input; of texts (n, 2, length) each row for its own."""
    ports = read_declared(source).inputs
    rows = (samples,) if samples.is_floating_point() else samples.unbind(1)
    if len(ports) != len(rows):
        raise InputError(
            f"{source} takes {', '.join(port.name for port in ports)}; a sample of the data set "
            f"has {len(rows)} of them"
        )
    return {port.name: row.numpy() for port, row in zip(ports, rows, strict=True)}


def check(
    path: Path,
    source: Path,
    precision: Precision,
    target: Target,
    samples: Arrays,
    labels: np.ndarray | None,
) -> VariantParity:
    """Both files on the target's runtime, here; the first output is (n, classes)."""
    expected, found = answers(source, target, samples), answers(path, target, samples)
    apart = float(np.abs(found - expected).max() / (np.abs(expected).max() or 1.0))
    chosen, was = (x.reshape(len(x), -1).argmax(1) for x in (found, expected))
    accuracy = None if labels is None else float((chosen == labels).mean())
    change = None if accuracy is None else accuracy - float((was == labels).mean())
    tolerance, limit = TOLERANCES[precision], ACCURACY_LOSS[precision]
    return VariantParity(
        against=sha256(source),
        target=target.name,
        samples=len(found),
        max_relative=apart,
        top1_agreement=float((chosen == was).mean()),
        accuracy=accuracy,
        accuracy_change=change,
        tolerance=tolerance,
        accuracy_loss_limit=limit,
        passed=bool(np.isfinite(found).all())
        and apart <= tolerance
        and (change is None or change >= -limit),
    )


def answers(path: Path, target: Target, samples: Arrays) -> np.ndarray:
    """The first output for all samples, in chunks of one loaded batch each."""
    runtime = base.make(target.runtime, target.device, target.settings)
    ports = read_declared(path).inputs
    fixed = [size for port in ports for size in port.shape[:1] if isinstance(size, int)]
    size, count = max(fixed, default=CHUNK), len(next(iter(samples.values())))
    outputs = []
    for start in range(0, count - count % size if fixed else count, size):
        chunk = {name: array[start : start + size] for name, array in samples.items()}
        session = runtime.load(path, threads=target.threads, inputs=given(chunk))
        session.run()
        outputs.append(next(iter(session.outputs().values())))
        session.close()
    return np.concatenate(outputs)


def why_refused(variant: Variant) -> str:
    """What a failed check found, and what could be done."""
    failed = [_failure(one) for one in variant.parity if not one.passed]
    more = "; give it more calibration images" if variant.precision == "int8" else ""
    return f"{'; '.join(failed)}{more}, or stay with fp32"


def _failure(parity: VariantParity) -> str:
    apart = f"outputs {parity.max_relative:.2g} of the largest apart (limit {parity.tolerance:g})"
    if parity.accuracy_change is None:
        return f"{parity.target}: {apart}"
    limit = parity.accuracy_loss_limit or 0.0
    return f"{parity.target}: {apart}, accuracy {parity.accuracy_change:+.4f} (limit {-limit:+g})"
