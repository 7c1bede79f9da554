"""A device that remembers: what an unfinished job has measured is not measured again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, TypeVar

from pydantic import TypeAdapter

from pipeline.feedback import Attempt, Goal, Measured, judged
from pipeline.planning import Plan
from pipeline.plans.workbench import Bench, Kept
from profiles.store import Store
from profiles.target import Target
from runtimes.errors import NothingMeasured, RuntimeUnavailable

T = TypeVar("T")
KEPT = "what was measured so far is kept: the same command goes on there"


@dataclass(frozen=True, slots=True)
class Parts:
    """What an unfinished job has measured, part by part, kept in the registry under its name."""

    store: Store
    job: str

    def once(self, part: str, kind: type[T], make: Callable[[], T]) -> T:
        """What was kept under this name, or else made now and kept as soon as it is made."""
        adapter = TypeAdapter(kind)
        if (record := self.store.part(self.job, part)) is not None:
            return adapter.validate_json(record)
        made = make()
        self.store.keep_part(self.job, part, adapter.dump_json(made).decode())
        return made

    def finished(self) -> None:
        """The same job again is a new one."""
        self.store.forget_job(self.job)


@dataclass(frozen=True, slots=True)
class Resumed:
    """`bench`, each of its measurements a part of the job."""

    bench: Bench
    parts: Parts
    asked: Counter[str] = field(default_factory=Counter)  # plans: a second time is measured anew

    def keep(self, target: Target) -> Kept:
        kept = self.parts.once(f"dense on {target.name}", Kept, lambda: self.bench.keep(target))
        self.bench.dense_ms[target.name] = kept.measured.latency_ms.value
        return kept

    def attempt(self, plan: Plan, goals: Sequence[Goal]) -> Attempt:
        name = _hash(sorted(plan.options))
        self.asked[name] += 1
        if (times := self.asked[name]) > 1:
            name = f"{name} time {times}"
        path = None
        measured = []
        for goal in goals:

            def compare(target: Target = goal.target) -> Measured:
                nonlocal path
                path = path or self.bench.planned(plan)
                return self.bench.compare(path, target)

            measured.append(self.parts.once(f"{name} on {goal.target.name}", Measured, compare))
        return judged(plan, measured, goals)


@contextmanager
def saying_what_is_kept(say: Callable[[str], None]) -> Iterator[None]:
    """Whatever ends the measuring says that the same command goes on where it was."""
    try:
        yield
    except (NothingMeasured, RuntimeUnavailable) as e:
        raise type(e)(f"{e}; {KEPT}") from e
    except KeyboardInterrupt:
        say(KEPT)
        raise


def job_of(asked: Mapping[str, Any]) -> str:
    """The name of a job: the hash of all that its measurements depend on."""
    return _hash(asked)


def _hash(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
