"""A against B: one number per round from pairs of neighbouring blocks.

    r = median over the round's pairs of log(median_B / median_A)

The estimate is Hodges-Lehmann's over rounds with the exact signed-rank interval. Measurements
whose identity differs never compare, unless the difference is the question: `across` names it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import exp, log
from statistics import median

from profiles.measurement import Measurement
from profiles.statistics import Estimate, signed_rank_interval
from runtimes.errors import InputError, NothingMeasured


def ratio(
    measurement: Measurement,
    reference: Measurement,
    confidence: float = 0.95,
    across: Collection[str] = (),
) -> Estimate:
    """How many times as long as the reference it takes."""
    logs = signed_rank_interval(log_ratios(measurement, reference, across), confidence)
    return Estimate(exp(logs.value), exp(logs.lo), exp(logs.hi), logs.confidence)


def difference_ms(
    measurement: Measurement,
    reference: Measurement,
    confidence: float = 0.95,
    across: Collection[str] = (),
) -> Estimate:
    """How many milliseconds longer than the reference it takes; negative is faster."""
    rounds = _per_round(measurement, reference, lambda mine, theirs: (mine - theirs) / 1e6, across)
    return signed_rank_interval(rounds, confidence)


def log_ratios(
    measurement: Measurement, reference: Measurement, across: Collection[str] = ()
) -> list[float]:
    """One value per round."""
    return _per_round(measurement, reference, lambda mine, theirs: log(mine / theirs), across)


def require_same_identity(
    measurement: Measurement, reference: Measurement, across: Collection[str] = ()
) -> None:
    """Refuse what never compares, naming the difference."""
    differences = measurement.differences(reference, across)
    if differences:
        flags = " ".join("--across " + one.partition(":")[0] for one in differences)
        raise InputError(
            f"{measurement.artifact.path.name} and {reference.artifact.path.name} do not "
            f"compare: they differ in {'; '.join(differences)} (if that is the question, "
            f"{flags})"
        )


def _per_round(
    measurement: Measurement,
    reference: Measurement,
    compare: Callable[[float, float], float],
    across: Collection[str],
) -> list[float]:
    require_same_identity(measurement, reference, across)
    partners = {(block.round, block.pair): block for block in reference.blocks}
    rounds: dict[int, list[float]] = {}
    for block in measurement.blocks:
        partner = partners.get((block.round, block.pair))
        if partner is not None:
            value = compare(block.median_ns, partner.median_ns)
            rounds.setdefault(block.round, []).append(value)
    if not rounds:
        raise NothingMeasured(
            f"{measurement.artifact.path.name} was not measured beside "
            f"{reference.artifact.path.name}: measure both in one call, the reference first"
        )
    return [median(values) for values in rounds.values()]
