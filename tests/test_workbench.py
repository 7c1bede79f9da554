"""A plan beside its dense network: measured again where the first interval says too little."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from known_times import CPU, Device

from pipeline.mapping import load_model, map_model
from pipeline.plans import workbench
from pipeline.plans.workbench import Bench
from profiles.measurement import Block, Measurement
from profiles.target import Target, find_target


class Disturbed(Device):
    """During its first `bad` measurements a neighbour makes every other round thrice as slow."""

    def __init__(self, bad: int) -> None:
        super().__init__()
        self.bad = bad
        self.rounds: list[int] = []

    def measure(
        self,
        target: Target,
        paths: Sequence[Path],
        *,
        rounds: int,
        seed: int,
        on_round: Callable[[int], None] = lambda _: None,
        **others: object,
    ) -> list[Measurement]:
        dense, network = super().measure(
            target, paths, rounds=rounds, seed=seed, on_round=on_round, **others
        )
        self.rounds.append(rounds)
        if len(self.rounds) <= self.bad:
            network = replace(network, blocks=tuple(map(slowed, network.blocks)))
        return [dense, network]


def slowed(block: Block) -> Block:
    times = 3 if block.round % 2 else 1
    return replace(block, samples_ns=tuple(times * ns for ns in block.samples_ns))


@pytest.mark.parametrize(("bad", "rounds"), [(0, [6]), (1, [6, 12]), (2, [6, 12])])
def test_a_wide_interval_is_measured_once_more_in_twice_the_rounds(
    network, bad, rounds, tmp_path, monkeypatch
):
    device = Disturbed(bad)
    monkeypatch.setattr(workbench, "measure", device.measure)
    dense = load_model(network)
    bench = Bench(dense, map_model(dense), tmp_path, seed=0, rounds=6)

    found = bench.compare(bench.dense_path, find_target(CPU))

    assert device.rounds == rounds
    assert found.rounds == rounds[-1]
    assert (found.ratio.hi == pytest.approx(1.0)) == (bad < 2)
