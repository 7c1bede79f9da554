"""A device whose times follow from the network alone, in place of `profiles.rounds.measure`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.mapping import Map, load_model, map_model
from profiles.environment import Fingerprint
from profiles.measurement import Block, Measurement, Round
from profiles.target import Target
from runtimes.base import Artifact

LOADED = Round(0.5, 0.5, None, 10, 0.01, True, (0,))
CPU, OPENVINO = "x86-cpu", "x86-openvino"


def by_macs(found: Map) -> float:
    return 1.0 + found.macs / 1e5


def by_operators(found: Map) -> float:
    return 1.0 + len(found.operators)


class Device:
    """`calls`: how many networks were measured at once; `drift`: slower by it with every call."""

    def __init__(self) -> None:
        self.times: dict[str, Callable[[Map], float]] = {CPU: by_macs, OPENVINO: by_operators}
        self.calls: list[int] = []
        self.drift = 0.0

    def measure(
        self,
        target: Target,
        paths: Sequence[Path],
        *,
        rounds: int,
        seed: int,
        on_round: Callable[[int], None] = lambda _: None,
        **_: object,
    ) -> list[Measurement]:
        slower = 1 + self.drift * len(self.calls)
        self.calls.append(len(paths))
        for done in range(rounds):
            on_round(done)
        return [
            Measurement(
                artifact=Artifact.of(path, batch=1),
                target=target.name,
                metric="host_ms",
                identity={"runtime": target.runtime},
                fingerprint=Fingerprint({"seed": seed}),
                rounds=(LOADED,),
                blocks=tuple(
                    Block(round_, pair, 0, 0, (self._ns(target, path, slower),))
                    for round_ in range(rounds)
                    for pair in (range(len(paths)) if index == 0 else [index])
                ),
            )
            for index, path in enumerate(paths)
        ]

    def _ns(self, target: Target, path: Path, slower: float) -> int:
        return int(1e6 * slower * self.times[target.name](map_model(load_model(path))))
