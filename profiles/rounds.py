"""Measure artifacts against a reference in rounds, so that what drifts cancels.

A round is a fresh process with every artifact loaded, in random order. Each artifact's block
stands next to a block of the reference (the first artifact), in random AB or BA order; the
pair's ratio is free of whatever lasts longer than two blocks, and the round's process effect
is shared. A disturbed block is repeated after a growing pause a few times and then kept as it
is, marked: `Measurement.disturbed_share` decides whether the whole is fit to be believed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep
from typing import Any

from profiles.environment import Fingerprint
from profiles.lease import lease
from profiles.measurement import Block, Measurement, Round
from profiles.remote import connection
from profiles.remote_worker import RemoteWorker
from profiles.target import Target
from profiles.worker import Asked, Worker
from runtimes.base import Artifact
from runtimes.errors import InputError

REPEATS = 2  # of one pair
REPEATED_SHARE = 0.3  # of a round's pairs; past this the target is unfit, repeating is no cure
PAUSE_S = 0.02  # doubles with each repeat
OPEN_WITHIN_S = 60.0
LOAD_WITHIN_S = 600.0  # an engine may have to be built
BLOCK_WITHIN_S = 120.0

OnRound = Callable[[int], None]
StartWorker = Callable[[Target], Asked]


def start_worker(target: Target) -> Asked:
    """A fresh process on the device: this machine, or the one behind ssh."""
    if target.transport == "ssh":
        return RemoteWorker(connection(target))
    return Worker(python=target.python)


def open_worker(
    worker: Asked, target: Target, cores: tuple[int, ...] | None = None
) -> dict[str, Any]:
    """Pin it, by default to the cores that idle most on the device, and give it its runtime."""
    return worker.ask(
        "open",
        within_s=OPEN_WITHIN_S,
        runtime=target.runtime,
        device=target.device,
        settings=dict(target.settings),
        threads=target.threads,
        cores=cores,
    )


@dataclass(frozen=True, slots=True)
class Sampling:
    """How much is run: these change the precision of a number, not its meaning."""

    block_s: float = 0.01
    min_runs: int = 20
    laps: int = 1  # pairs per artifact and round
    warm_up_s: float = 1.0  # per round, shared by its artifacts
    warm_up_cap_s: float = 3.0


@dataclass(slots=True)
class _Collected:
    """What has been heard of one artifact so far."""

    identity: dict[str, str] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    discarded: list[Block] = field(default_factory=list)

    def add(self, later: _Collected) -> None:
        self.identity = later.identity
        self.rounds += later.rounds
        self.blocks += later.blocks
        self.discarded += later.discarded


class Trial:
    """Rounds of the same artifacts, as many as are asked for, one after another."""

    def __init__(
        self,
        target: Target,
        paths: Sequence[Path],
        *,
        seed: int,
        sampling: Sampling,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        start: StartWorker = start_worker,
    ):
        if not paths:
            raise InputError("no artifact to measure: give at least one ONNX file")
        self.target = target
        self.artifacts = [Artifact.of(Path(path), batch=target.batch) for path in paths]
        self.sampling = sampling
        self.shapes = {name: list(shape) for name, shape in (shapes or {}).items()}
        self.seed = seed
        self.start = start
        self.order = random.Random(seed)
        self.done = 0
        self.collected = [_Collected() for _ in paths]
        self.heard = [_Collected() for _ in paths]  # in the present round
        self.fingerprint: Fingerprint | None = None
        self.opened: dict[str, Any] = {}

    def round(self) -> None:
        """One fresh process; a round that fails leaves nothing behind."""
        self.heard = [_Collected() for _ in self.artifacts]
        with self.start(self.target) as worker:
            self.opened = open_worker(worker, self.target, self.target.cores)
            if self.fingerprint is None:
                known = Fingerprint(**worker.ask("fingerprint", within_s=OPEN_WITHIN_S))
                self.fingerprint = known.asked(
                    power_mode=self.target.power_mode, clocks=self.target.clocks
                )
            self._load(worker, tuple(self.opened["cores"]))
            self._pairs(worker)
            worker.ask("close", within_s=OPEN_WITHIN_S)
        for collected, heard in zip(self.collected, self.heard, strict=True):
            collected.add(heard)
        self.done += 1

    def measurements(self) -> list[Measurement]:
        assert self.fingerprint is not None, "at least one round was run"
        return [
            Measurement(
                artifact=artifact,
                target=self.target.name,
                metric="host_ms",
                identity={**heard.identity, **self._identity()},
                fingerprint=self.fingerprint,
                rounds=tuple(heard.rounds),
                blocks=tuple(heard.blocks),
                discarded=tuple(heard.discarded),
                timer_overhead_ns=self.opened["timer_overhead_ns"],
            )
            for artifact, heard in zip(self.artifacts, self.collected, strict=True)
        ]

    def _identity(self) -> dict[str, str]:
        return {
            "runtime": self.target.runtime,
            "runtime_version": self.opened["runtime_version"],
            "device": self.target.device,
            "threads": str(self.target.threads),
            "batch": str(self.target.batch),
            **{name: str(value) for name, value in self.target.settings.items()},
            "requests_in_flight": "1",
            "transfers": "none, inputs and outputs stay bound",
        }

    def _load(self, worker: Asked, cores: tuple[int, ...]) -> None:
        count = len(self.artifacts)
        loaded: dict[int, dict[str, Any]] = {}
        for index in self._shuffled(range(count)):
            loaded[index] = worker.ask(
                "load",
                within_s=LOAD_WITHIN_S,
                key=str(index),
                path=str(self.artifacts[index].path.resolve()),
                batch=self.target.batch,
                seed=self.seed,
                shapes=self.shapes,
            )
            self.heard[index].identity = loaded[index]["identity"]
        for index in self._shuffled(range(count)):
            warm = worker.ask(
                "warm_up",
                within_s=BLOCK_WITHIN_S,
                key=str(index),
                at_least_s=self.sampling.warm_up_s / count,
                at_most_s=self.sampling.warm_up_cap_s / count,
            )
            self.heard[index].rounds.append(
                Round(
                    load_ms=loaded[index]["load_ms"],
                    first_inference_ms=loaded[index]["first_inference_ms"],
                    peak_bytes=loaded[index]["peak_bytes"] if count == 1 else None,
                    warm_up_runs=warm["runs"],
                    warm_up_s=warm["seconds"],
                    stable=warm["stable"],
                    cores=cores,
                )
            )

    def _pairs(self, worker: Asked) -> None:
        pairs: list[list[int]] = []
        for _ in range(self.sampling.laps):
            others = self._shuffled(range(1, len(self.artifacts)))
            pairs += [self._shuffled([0, other]) for other in others] or [[0]]
        spare = max(REPEATS, int(REPEATED_SHARE * len(pairs)))
        for pair, members in enumerate(pairs):
            spare -= self._pair(worker, pair, members, min(spare, REPEATS))

    def _pair(self, worker: Asked, pair: int, members: list[int], repeats: int) -> int:
        """Blocks side by side, all of them again when one is disturbed; how often that was."""
        for attempt in range(repeats + 1):
            blocks = [
                self._block(worker, index, pair, position) for position, index in enumerate(members)
            ]
            last = attempt == repeats or not any(block.disturbances for block in blocks)
            for index, block in zip(members, blocks, strict=True):
                heard = self.heard[index]
                (heard.blocks if last else heard.discarded).append(block)
            if last:
                return attempt
            sleep(PAUSE_S * 2**attempt)
        raise AssertionError("the last attempt returns")

    def _block(self, worker: Asked, index: int, pair: int, position: int) -> Block:
        answer = worker.ask(
            "block",
            within_s=BLOCK_WITHIN_S,
            key=str(index),
            min_runs=self.sampling.min_runs,
            min_s=self.sampling.block_s,
        )
        return Block(
            round=self.done,
            pair=pair,
            position=position,
            start_ns=answer["start_ns"],
            samples_ns=tuple(answer["samples_ns"]),
            disturbances=tuple(answer["disturbances"]),
            surroundings=answer["surroundings"],
        )

    def _shuffled(self, items: Sequence[int]) -> list[int]:
        return self.order.sample(list(items), len(items))


def measure(
    target: Target,
    paths: Sequence[Path],
    *,
    rounds: int = 10,
    seed: int = 0,
    block_s: float = 0.01,
    min_runs: int = 20,
    laps: int = 1,
    warm_up_s: float = 1.0,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    on_round: OnRound = lambda _done: None,
    say: Callable[[str], None] = lambda _message: None,
    start: StartWorker = start_worker,
) -> list[Measurement]:
    """Measure every artifact, each beside `paths[0]`; one `Measurement` per path, in order."""
    if rounds < 1:
        raise InputError(f"{rounds} rounds measure nothing: at least 1")
    sampling = Sampling(block_s, min_runs, laps, warm_up_s, 3 * warm_up_s)
    trial = Trial(target, paths, seed=seed, sampling=sampling, shapes=shapes, start=start)
    what = Path(paths[0]).name if len(paths) == 1 else f"{len(paths)} networks"
    with lease(target, f"measuring {what}", say=say):
        for done in range(rounds):
            trial.round()
            on_round(done + 1)
    return trial.measurements()
