"""The documents of `shoal compress` and `shoal report`, as they are printed, stored and published.

`report.json` is the compress document; the pages are made from it and from nothing else, so that
`shoal report` can make them again years later, without the network or the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from runtimes.base import Precision

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "UNFIT"]
Choice = Literal["keep", "merge", "refit", "low-rank", "drop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Measured on one target, beside the dense network; the dense one has no ratio."""

    median_ms: float
    interval_ms: tuple[float, float]
    ratio: float | None = None
    ratio_interval: tuple[float, float] | None = None
    confidence: float
    rounds: int
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRecord:
    path: str
    sha256: str
    precision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRecord:
    """The collapsed ONNX graph against what it was made from."""

    max_abs: float
    rms_relative: float
    border_rms_relative: float | None
    tolerance: float
    inputs: int
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityRecord:
    """An artifact on a target's runtime against the torch model, on test images."""

    target: str
    images: int
    max_relative: float
    top1_agreement: float
    accuracy: float
    tolerance: float
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantParity:
    """A file's outputs on one runtime: against torch's, or those of the fp32 file on that runtime.

    `against` is torch or the SHA-256 of the fp32 file. `accuracy_change` is the file's accuracy
    minus the other's on the same samples, and null where nobody said what is right.
    """

    against: str
    target: str
    samples: int
    max_relative: float
    top1_agreement: float
    accuracy: float | None
    accuracy_change: float | None
    tolerance: float
    accuracy_loss_limit: float | None
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantRecord:
    """One network in fewer bits than fp32; what failed its check was not measured or delivered.

    `kept_fp32`: operators that compute in fp32 all the same, how many of each type.
    """

    network: Literal["dense", "shallow"]
    precision: Precision
    activations: Literal["uint8", "int8"] | None
    path: str | None
    sha256: str
    parent: str | None
    kept_fp32: dict[str, int]
    parity: tuple[VariantParity, ...]
    measured_ms: dict[str, Latency]
    meets: dict[str, bool]
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What one choice changes on one target: as the plan reckoned, and as it was measured."""

    predicted_ms: float
    measured_ms: float
    interval_ms: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentPlan:
    """One line for each choice; a segment that nothing was chosen for is kept."""

    segment: str
    choice: Choice
    option: str | None
    kernel: tuple[int, ...] | None
    operators_before: int
    operators_after: int
    removed_sites: tuple[str, ...]
    macs_before: int
    macs_after: int
    difference: dict[str, Difference]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRound:
    predicted_ms: float
    measured_ms: float
    interval_ms: tuple[float, float]
    budget_ms: float | None
    meets: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRound:
    """One turn of the closed loop: planned, built, measured whole.

    A plan that measured far from its prediction has a second turn, and has to meet again.
    """

    options: tuple[str, ...]
    predicted_loss: float
    targets: dict[str, TargetRound]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRecord:
    segments: tuple[SegmentPlan, ...]
    predicted_ms: dict[str, float]
    predicted_loss: float
    status: str
    rounds: tuple[PlanRound, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseRecord:
    """`macs` are those of one sample; of one token, where the network reads text."""

    accuracy: float
    validation_accuracy: float
    measured_ms: dict[str, Latency]
    macs: int
    parameters: int
    depth: int
    activations: int
    artifacts: tuple[ArtifactRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRecord:
    """One trained network; `warm_start` names the candidate whose weights it started from.

    `frontier`: which row of the document's frontier it carries out, null for none.
    """

    name: str
    verdict: Verdict
    reasons: tuple[str, ...]
    warm_start: str | None
    frontier: int | None
    accuracy: float
    validation_accuracy: float
    measured_ms: dict[str, Latency]
    macs: int
    parameters: int
    depth: int
    activations: int
    artifacts: tuple[ArtifactRecord, ...]
    plan: PlanRecord
    removed_sites: tuple[str, ...]
    merged_operators: int
    accuracy_before_finetuning: float | None
    certificate: CertificateRecord
    parity: tuple[ParityRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierRow:
    """One plan between the network as it is and the fastest, weights untrained.

    Fewer bits than fp32 add to the loss what they cost by convention.
    `dominated`: another one is predicted to lose no more and measured no slower on any target.
    `predicted_ms`: of the latency tables as corrected before the frontier was made, by the plans
    that were tried for a budget and by the fastest. For those plans it is a look back.
    `prediction_error`: predicted over measured, both relative to dense beside them, minus one.
    """

    precision: Precision = "fp32"
    options: tuple[str, ...]
    removed_sites: tuple[str, ...]
    predicted_loss: float
    macs: int
    predicted_ms: dict[str, float]
    measured_ms: dict[str, Latency]
    prediction_error: dict[str, float]
    meets: dict[str, bool]
    dominated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactRecord:
    """The fastest plan of exact merges alone, weights untrained: what depth alone would give."""

    options: tuple[str, ...]
    measured_ms: dict[str, Latency]


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRecord:
    """One activation call-site; `scores` by criterion, null where it has none."""

    id: str
    kind: str
    segment: str | None
    scores: dict[str, float | None]
    refusal: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRecord:
    """What was asked of one target; a target that is verified alone has no budget."""

    target: str
    description: str
    budget: str | None
    limit_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressDocument:
    schema: Literal["shoal.compress/1"] = "shoal.compress/1"
    name: str
    model: str
    dataset: str
    test_images: int
    seed: int
    date: str
    seconds: dict[str, float]
    targets: tuple[BudgetRecord, ...]
    dense: DenseRecord
    exact_only: ExactRecord
    frontier: tuple[FrontierRow, ...]
    accuracy_floor: float | None
    candidates: tuple[CandidateRecord, ...]
    precisions: tuple[VariantRecord, ...] = ()
    chosen: int | None
    verdict: Verdict
    reasons: tuple[str, ...]
    sites: tuple[SiteRecord, ...]
    fingerprint: dict[str, str | int | None]
    missing: dict[str, str]
    versions: dict[str, str]
    recipe: dict[str, Any]
    report: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportDocument:
    """Where the report is; the page of an iterated job has no Markdown beside it."""

    schema: Literal["shoal.report/1"] = "shoal.report/1"
    json: str
    markdown: str | None
    html: str
