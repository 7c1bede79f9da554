"""A finished network against its budget: in more rounds for as long as the verdict is open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.feedback import Bench, Measured
from profiles.budget import Budget
from profiles.comparison import ratio
from profiles.deciding import Looks, measure_until
from profiles.measurement import Measurement
from profiles.rounds import Sampling
from profiles.target import Target

SAMPLING = Sampling(laps=5, warm_up_s=0.3, warm_up_cap_s=0.9)


def decide(bench: Bench, path: Path, target: Target, budget: Budget, looks: Looks) -> Measured:
    """Beside the dense network, at the confidence that every look was promised beforehand."""

    def beside(pair: Sequence[Measurement]) -> Measured:
        dense, network = pair
        return Measured(
            target.name,
            network.estimate_ms(looks.confidence),
            dense.estimate_ms(looks.confidence),
            ratio(network, dense, looks.confidence),
            len(network.rounds),
            len(network.samples_ns()),
        )

    def decided(pair: Sequence[Measurement]) -> bool:
        found = beside(pair)
        return found.meets(budget) or found.misses(budget)

    paths = [bench.dense_path, path]
    return beside(
        measure_until(target, paths, decided, looks=looks, seed=bench.seed, sampling=SAMPLING)
    )
