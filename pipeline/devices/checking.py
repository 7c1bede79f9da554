"""`shoal targets check NAME`: may this target be measured on, and if not, where does it break?

The links of the chain, each of which needs the one before:

    reach     the device lets us in
    python    its interpreter starts our agent, and has numpy
    sdk       the runtime opens there, on the device that the target names
    lease     nobody else is measuring on it
    run       one node computes what numpy does
    state     power mode and clocks are as the target file has them
    noise     blocks of a small network are disturbed no more than a measurement may be

Exit codes: 0 every link holds; 5 one up to `run` broke, so nothing could be measured; 4 a number
could be had and would be unfit (`state`, `noise`); 2 no such target.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from pipeline.devices.probes import stacked_network
from pipeline.reporting.progress import Reporter
from profiles.environment import Fingerprint
from profiles.fitness import DISTURBED_LIMIT
from profiles.lease import lease
from profiles.remote import connection
from profiles.rounds import BLOCK_WITHIN_S, LOAD_WITHIN_S, Asked, open_worker, start_worker
from profiles.ssh import Unreachable
from profiles.target import Target, find_target, target_names
from runtimes.errors import InputError, NothingMeasured
from runtimes.inputs import seeded
from runtimes.onnx_file import one_node_model, read_declared

CHECK = "check"
PATIENCE_S = 1.0
ASK_WITHIN_S = 60.0
BLOCKS = 20
BLOCK_S = 0.01
UNFIT = ("state", "noise")
Failure = InputError | NothingMeasured


@dataclass(frozen=True, slots=True)
class Link:
    """`holds` is null where an earlier link broke, so that this one was not tried."""

    name: str
    holds: bool | None
    detail: str  # what was found, or what is wrong and how to mend it


@dataclass(frozen=True, slots=True)
class CheckDocument:
    schema: str
    target: Mapping[str, Any]
    holds: bool
    broken: str | None
    links: tuple[Link, ...]
    noise_spread: float | None  # (90 % - 10 % quantile) / median of the blocks' medians
    disturbed_share: float | None
    host: Mapping[str, Any]
    unknown: Mapping[str, str]


@dataclass(slots=True)
class Chain:
    """What the links hand on; every method raises what is wrong, or says what it found."""

    target: Target
    say: Callable[[str], None]
    folder: Path
    ending: ExitStack
    later: Failure | None = None  # the session began and then failed: the next link's fault
    worker: Asked | None = None
    known: Fingerprint = field(default_factory=lambda: Fingerprint({}))
    spread: float | None = None
    disturbed: float | None = None

    def links(self) -> Iterator[tuple[str, Callable[[], str]]]:
        yield "reach", self.reach
        yield "python", self.python
        yield "sdk", self.sdk
        yield "lease", self.lease
        yield "run", self.run
        yield "state", self.state
        yield "noise", self.noise

    def reach(self) -> str:
        if self.target.transport == "local":
            return "this machine"
        try:
            connection(self.target)
        except Unreachable:
            raise
        except (InputError, NothingMeasured) as e:
            self.later = e
        return f"ssh {self.target.host}"

    def python(self) -> str:
        if self.later is not None:
            raise self.later
        self.worker = self.ending.enter_context(start_worker(self.target))
        try:
            facts = self.worker.ask("fingerprint", within_s=ASK_WITHIN_S)["facts"]
        except NothingMeasured as e:
            python = self.target.python or "this interpreter"
            raise NothingMeasured(
                f"{e}: `python` in the target file, {python}, has to be 3.10 or newer with numpy"
            ) from e
        numpy = facts.get("package numpy")
        return f"Python {facts['python']} on {facts['machine']}, numpy {numpy}"

    def sdk(self) -> str:
        opened = open_worker(self._started, self.target, self.target.cores)
        self.known = Fingerprint(**self._started.ask("fingerprint", within_s=ASK_WITHIN_S))
        version = opened["runtime_version"]
        return f"{self.target.runtime} {version} on {self.target.device}"

    def lease(self) -> str:
        held = lease(self.target, "being checked", patience_s=PATIENCE_S, say=self.say)
        self.ending.enter_context(held)
        return "free"

    def run(self) -> str:
        path = self.folder / "one_node.onnx"
        path.write_bytes(one_node_model())
        image = seeded(batch=1)(read_declared(path).inputs)["x"]
        identity = self._load("one", path)["identity"]
        answer = self._started.ask("outputs", within_s=BLOCK_WITHIN_S, key="one")
        wrong = int((np.asarray(answer["y"]) != np.maximum(image, 0).ravel()).sum())
        if wrong:
            raise NothingMeasured(
                f"{wrong} of {image.size} values of one node are not numpy's: "
                f"shoal doctor --target {self.target.name} --prove shows what else is wrong"
            )
        return f"one node ran right on {identity['providers']}"

    def state(self) -> str:
        asked = {"power_mode": self.target.power_mode, "clocks": self.target.clocks}
        wrong = self.known.asked(**asked).unmet()
        if wrong:
            raise NothingMeasured("; ".join(wrong))
        if self.target.clocks == "locked":
            return "NVML cannot tell whether the clocks are locked: each block's clock is kept"
        told = [f"{name} {wish}" for name, wish in asked.items() if wish is not None]
        return f"as asked: {', '.join(told)}" if told else "the target file asks for none"

    def noise(self) -> str:
        self._load("noise", stacked_network(self.folder / "noise.onnx"))
        blocks = [
            self._started.ask("block", within_s=BLOCK_WITHIN_S, key="noise", min_runs=20,
                              min_s=BLOCK_S)
            for _ in range(BLOCKS)
        ]  # fmt: skip
        medians = [float(np.median(block["samples_ns"])) for block in blocks]
        low, middle, high = np.quantile(medians, [0.1, 0.5, 0.9])
        self.spread = float((high - low) / middle)
        self.disturbed = sum(bool(block["disturbances"]) for block in blocks) / BLOCKS
        found = f"the same work varies by {self.spread:.1%}; {self.disturbed:.0%} disturbed"
        if self.disturbed > DISTURBED_LIMIT:
            causes = sorted({cause for block in blocks for cause in block["disturbances"]})
            raise NothingMeasured(
                f"{found} (at most {DISTURBED_LIMIT:.0%}) by {', '.join(causes)}: stop what else "
                "runs there, or give the target `cores` of its own"
            )
        return found

    @property
    def _started(self) -> Asked:
        assert self.worker is not None, "the links come in order"
        return self.worker

    def _load(self, key: str, path: Path) -> dict[str, Any]:
        wanted = {"path": str(path), "batch": 1, "seed": 0, "shapes": {}}
        return self._started.ask("load", within_s=LOAD_WITHIN_S, key=key, **wanted)


def chosen(name: str | None, checked: str | None) -> Target | None:
    """The target of `targets check NAME`; None where the word is not check, but a target."""
    if checked is None and (name != CHECK or CHECK in target_names()):
        return None
    known = ", ".join(target_names())
    if checked is None:
        raise InputError(f"which target is to be checked? shoal targets check NAME; there are: "
                         f"{known}")  # fmt: skip
    if name != CHECK:
        raise InputError(f"shoal targets {name} {checked} is neither `targets NAME` nor `targets "
                         f"check NAME`: one target at a time; there are: {known}")  # fmt: skip
    return find_target(checked)


def check(target: Target, reporter: Reporter) -> CheckDocument:
    """Walk the chain up to the first link that breaks."""
    links: list[Link] = []
    broken = None
    with tempfile.TemporaryDirectory() as folder, ExitStack() as ending:
        chain = Chain(target, reporter.say, Path(folder), ending)
        for name, walk in chain.links():
            if broken is not None:
                links.append(Link(name, None, f"not tried: {broken} has to hold first"))
                continue
            try:
                links.append(Link(name, True, walk()))
            except (InputError, NothingMeasured) as e:
                links.append(Link(name, False, str(e)))
                broken = name
    return CheckDocument(
        schema="shoal.check/1",
        target=asdict(target),
        holds=broken is None,
        broken=broken,
        links=tuple(links),
        noise_spread=chain.spread,
        disturbed_share=chain.disturbed,
        host=chain.known.facts,
        unknown=chain.known.missing,
    )


def exit_code(document: CheckDocument) -> int:
    if document.broken is None:
        return 0
    return 4 if document.broken in UNFIT else 5


def show_check(document: CheckDocument) -> Table:
    verdict = "every link holds" if document.holds else f"broken at {document.broken}"
    table = Table(title=f"{document.target['name']}: {verdict}", show_header=False)
    words = {True: "holds", False: "BROKEN", None: ""}
    for link in document.links:
        table.add_row(link.name, words[link.holds], link.detail)
    return table
