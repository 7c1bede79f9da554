"""Whether what was measured may be believed, and what speaks against it.

unfit:  more than 30 % of the blocks were disturbed (they were repeated, then kept, marked),
        or a CPU quota below the threads asked for
notes:  what a reader should know and what no verdict hangs on
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from profiles.device import clock_note
from profiles.environment import Fingerprint
from profiles.measurement import Measurement

DISTURBED_LIMIT = 0.3


@dataclass(frozen=True, slots=True)
class Fitness:
    """`verdict` is fit or unfit; `reasons` say why, `notes` what else was seen."""

    verdict: str
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    disturbed_share: float

    @property
    def fit(self) -> bool:
        return self.verdict == "fit"


def judge(measurements: Sequence[Measurement]) -> Fitness:
    """Fitness of artifacts that were measured together."""
    blocks = [block for one in measurements for block in (*one.blocks, *one.discarded)]
    share = sum(bool(block.disturbances) for block in blocks) / len(blocks)
    causes = Counter(cause for block in blocks for cause in block.disturbances)
    seen = ", ".join(f"{cause} ({count})" for cause, count in causes.most_common())
    reasons = []
    if share > DISTURBED_LIMIT:
        reasons.append(
            f"{share:.0%} of {len(blocks)} blocks were disturbed (at most {DISTURBED_LIMIT:.0%}): "
            f"{seen}; stop what else runs, or give the target cores of its own"
        )
    fingerprint = measurements[0].fingerprint
    threads = int(measurements[0].identity["threads"])
    quota = quota_cores(fingerprint)
    if quota is not None and quota < threads:
        reasons.append(f"the CPU quota is {quota:g} cores for {threads} threads: raise it")
    reasons += fingerprint.unmet()
    return Fitness(
        "unfit" if reasons else "fit",
        tuple(reasons),
        (*_notes(measurements, fingerprint), *([f"disturbed blocks: {seen}"] if seen else [])),
        share,
    )


def quota_cores(fingerprint: Fingerprint) -> float | None:
    """How many cores' time the cgroup may use; None without a limit."""
    words = str(fingerprint.facts.get("cgroup_quota") or "max").split()
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0].isdigit() else None


def _notes(measurements: Sequence[Measurement], fingerprint: Fingerprint) -> list[str]:
    notes = []
    rounds = [one for measurement in measurements for one in measurement.rounds]
    unsettled = sum(not one.stable for one in rounds)
    if unsettled:
        notes.append(f"warm-up reached its cap before settling in {unsettled} of {len(rounds)}")
    governor = fingerprint.facts.get("governor")
    if governor not in (None, "performance"):
        notes.append(f"the CPU governor is {governor}, not performance")
    if fingerprint.facts.get("turbo") == "1":
        notes.append("turbo is on: times depend on temperature and on the other cores")
    load, cores = fingerprint.facts.get("load"), fingerprint.facts.get("cores")
    if load is not None and cores is not None and float(load) > float(cores):
        notes.append(f"the load average was {load} on {cores} cores at the start")
    blocks = (block for one in measurements for block in one.blocks)
    locked = fingerprint.facts.get("asked clocks") == "locked"
    moved = clock_note((block.surroundings for block in blocks), locked=locked)
    if moved:
        notes.append(moved)
    others = fingerprint.facts.get("gpu_other_processes")
    if others:
        notes.append(f"{others} other processes had the GPU open to compute on it")
    overhead_ns = measurements[0].timer_overhead_ns
    fastest_ms = min(measurement.median_ms for measurement in measurements)
    if overhead_ns > 0.01 * fastest_ms * 1e6:
        notes.append(f"reading the clock takes {overhead_ns} ns of {fastest_ms * 1e6:.0f} ns")
    return notes
