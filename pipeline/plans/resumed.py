"""A device that remembers: what an unfinished job has measured is not measured again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, TypeVar

from pydantic import TypeAdapter

from pipeline.feedback import Attempt, Goal, Measured, judged
from pipeline.planning import Plan
from pipeline.plans.workbench import Bench, Kept
from profiles.store import Store
from profiles.target import Target

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Resumed:
    """`bench`, each of its measurements kept under `job` as soon as it is made."""

    bench: Bench
    store: Store
    job: str
    asked: Counter[str] = field(default_factory=Counter)  # plans: a second time is measured anew

    def keep(self, target: Target) -> Kept:
        kept = self._once(f"dense on {target.name}", Kept, lambda: self.bench.keep(target))
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

            measured.append(self._once(f"{name} on {goal.target.name}", Measured, compare))
        return judged(plan, measured, goals)

    def finished(self) -> None:
        """The same job again is a new one."""
        self.store.forget_job(self.job)

    def _once(self, part: str, kind: type[T], make: Callable[[], T]) -> T:
        adapter = TypeAdapter(kind)
        if (record := self.store.part(self.job, part)) is not None:
            return adapter.validate_json(record)
        made = make()
        self.store.keep_part(self.job, part, adapter.dump_json(made).decode())
        return made


def job_of(asked: Mapping[str, Any]) -> str:
    """The name of a job: the hash of all that its measurements depend on."""
    return _hash(asked)


def _hash(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
