"""An artifact in the precisions that are asked for, each held against the fp32 file it is made of.

Two things can go wrong and are judged apart: outputs move (the largest difference over the largest
fp32 output, by `TOLERANCES`), and decisions change (accuracy on the validation images, by
`ACCURACY_LOSS`). fp16 is at most rounding; int8 moves every logit a little by design, so there the
accuracy is what decides and the tolerance only catches ranges that are wrong altogether.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from pipeline.datasets import Split
from pipeline.job import Job, write_bytes
from pipeline.precision import Activations, Arrays, Made, Precision, activations_for, make
from pipeline.verify import run
from profiles.target import Target, find_target
from runtimes.onnx_file import read_declared, sha256

TOLERANCES = {"fp16": 2e-2, "int8": 0.25}  # of the largest output
ACCURACY_LOSS = {"fp16": 0.005, "int8": 0.02}  # fractions of the validation images
REFERENCE = "x86-cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantParity:
    """One runtime's outputs of the variant against its own of the fp32 file.

    `accuracy_change` is the variant's accuracy minus that of fp32, on the same images.
    """

    target: str
    images: int
    max_relative: float
    top1_agreement: float
    accuracy: float
    accuracy_change: float
    tolerance: float
    accuracy_loss_limit: float
    passed: bool


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
            file = f"{name}-{precision}{'-symmetric' if form == 'int8' else ''}.onnx"
            found.append(_variant(job, source, file, precision, form, targets))
    return found


def _variant(
    job: Job,
    source: Path,
    file: str,
    precision: Precision,
    activations: Activations,
    targets: Sequence[Target],
) -> Variant:
    here = [t for t in targets if t.transport == "local" and t.runtime != "null"]
    checkers = here or [find_target(REFERENCE)]
    key = {
        "source": sha256(source),
        "precision": precision,
        "activations": activations,
        "images": len(job.calibration),
        "data": job.splits.sha256(),
        "targets": [asdict(target) for target in checkers],
    }

    def produce(folder: Path) -> None:
        samples = calibration(job, source) if precision == "int8" else None
        path = folder / "variant.onnx"
        made = make(source, precision, path, calibration=samples, activations=activations)
        validation = job.splits.validation
        parity = [check(path, source, precision, target, validation) for target in checkers]
        write_bytes(folder / "made.json", TypeAdapter(Made).dump_json(made, indent=2))
        write_bytes(
            folder / "parity.json", TypeAdapter(list[VariantParity]).dump_json(parity, indent=2)
        )

    job.reporter.say(f"{file} ...")
    folder = job.workspace.stage("variant", key, produce)
    made = TypeAdapter(Made).validate_json((folder / "made.json").read_bytes())
    parity = TypeAdapter(tuple[VariantParity, ...]).validate_json(
        (folder / "parity.json").read_bytes()
    )
    path = folder / "variant.onnx"
    if all(one.passed for one in parity):
        path = job.workspace.deliver(path, file)
    return Variant(made, precision, path, parity)


def calibration(job: Job, source: Path) -> Arrays:
    """The calibration images, for the network's one input."""
    (port,) = read_declared(source).inputs
    return {port.name: job.calibration.numpy()}


def check(
    path: Path, source: Path, precision: Precision, target: Target, split: Split
) -> VariantParity:
    """Both files on the target's runtime, here."""
    images, labels = split.images.numpy(), split.labels.numpy()
    expected, found = run(source, target, images), run(path, target, images)
    right, was_right = found.argmax(1) == labels, expected.argmax(1) == labels
    apart = float(np.abs(found - expected).max() / np.abs(expected).max())
    change = float(right.mean() - was_right.mean())
    tolerance, limit = TOLERANCES[precision], ACCURACY_LOSS[precision]
    return VariantParity(
        target=target.name,
        images=len(split),
        max_relative=apart,
        top1_agreement=float((found.argmax(1) == expected.argmax(1)).mean()),
        accuracy=float(right.mean()),
        accuracy_change=change,
        tolerance=tolerance,
        accuracy_loss_limit=limit,
        passed=bool(np.isfinite(found).all()) and apart <= tolerance and change >= -limit,
    )


def why_refused(variant: Variant) -> str:
    """What a failed check found, and what could be done."""
    failed = [
        f"{p.target}: outputs {p.max_relative:.2g} of the largest apart (limit {p.tolerance:g}), "
        f"accuracy {p.accuracy_change:+.4f} (limit {-p.accuracy_loss_limit:+g})"
        for p in variant.parity
        if not p.passed
    ]
    more = "; give it more calibration images" if variant.precision == "int8" else ""
    return f"{'; '.join(failed)}{more}, or stay with fp32"
