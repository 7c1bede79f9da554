"""What `plans.py` measures: a network on a target within a budget, and the choice by FLOPs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from time import monotonic

from pipeline.feedback import Attempt, Goal, Measured, search
from pipeline.mapping import Map
from pipeline.planning import Limit, Plan, by_macs, fastest
from pipeline.plans.latency_table import Tabulated
from pipeline.plans.workbench import Bench, Kept
from pipeline.verbs.plan_file import losses_of
from profiles.environment import fingerprint


@dataclass(frozen=True, slots=True)
class Whole:
    """A plan, measured: relative to dense beside it."""

    options: int
    removed_sites: int
    macs: float  # of dense
    predicted: float
    measured: float
    interval: tuple[float, float]
    median_ms: float
    meets: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One line: network, target, budget. `rounds`: of predicted and measured, in their order."""

    network: str
    target: str
    budget: float
    date: str
    device: str
    runtime: str
    dense_ms: float
    dense_interval_ms: tuple[float, float]
    sites: int
    offered: int
    table: str
    table_s: float
    table_cpu_s: float
    rounds: tuple[tuple[float, float], ...]
    feasible: bool
    plan: Whole
    flops: Whole
    seconds: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall and CPU seconds, of this process and of every worker that has ended, since `begin`."""

    wall_s: float
    cpu_s: float

    @classmethod
    def begin(cls) -> Clock:
        used = [getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN)]
        return cls(monotonic(), sum(one.ru_utime + one.ru_stime for one in used))

    def passed(self) -> tuple[float, float]:
        now = Clock.begin()
        return now.wall_s - self.wall_s, now.cpu_s - self.cpu_s


@dataclass(frozen=True, slots=True)
class Known:
    """A network on a target before any budget."""

    network: str
    map_: Map
    bench: Bench
    kept: Kept
    table: Tabulated
    seconds: tuple[float, float]


def fewest_macs(known: Known, budget: float) -> Plan:
    """The choice by FLOPs: MACs in place of time, or of fewest MACs where none has so few."""
    map_ = known.map_
    losses = losses_of(map_.options, None)
    plan = by_macs(map_.options, losses, macs=map_.macs, most=budget * map_.macs)
    changes = {option.id: float(option.macs - option.macs_before) for option in map_.options}
    counting = Limit("macs", float(map_.macs), changes, budget * map_.macs)
    return plan or fastest(map_.options, losses, [counting])


def whole(known: Known, attempt: Attempt, predicted: float) -> Whole:
    measured: Measured = attempt.measured[0]
    chosen = [known.bench.options[id_] for id_ in attempt.plan.options]
    saved = sum(option.macs_before - option.macs for option in chosen)
    return Whole(
        options=len(chosen),
        removed_sites=sum(len(option.sites) for option in chosen),
        macs=1 - saved / known.map_.macs,
        predicted=predicted,
        measured=measured.ratio.value,
        interval=(measured.ratio.lo, measured.ratio.hi),
        median_ms=measured.latency_ms.value,
        meets=attempt.meets[0],
    )


def planned(known: Known, goal: Goal, max_rounds: int) -> Row:
    """One budget: the closed loop, then the choice by MACs."""
    clock = Clock.begin()
    budget = goal.budget.ratio
    assert budget is not None, "budgets here are relative"
    options, dense = known.map_.options, known.kept.measured.latency_ms
    losses = losses_of(options, None)
    found = search(
        known.bench, options, losses, [known.table.table], [goal],
        max_rounds=max_rounds, on_attempt=lambda _: None,
    )  # fmt: skip
    shares = [a.plan.predicted_ms[goal.target.name] / dense.value for a in found.attempts]
    measured = [a.measured[0].ratio.value for a in found.attempts]
    best = found.nearest if found.best is None else found.best
    assert best is not None, "one plan is the best, or else the nearest"
    cheap = fewest_macs(known, budget)
    same = {frozenset(a.plan.options): a for a in found.attempts}
    flops = same.get(frozenset(cheap.options)) or known.bench.attempt(cheap, [goal])
    saved = sum(o.macs_before - o.macs for o in options if o.id in cheap.options)
    seconds, cpu_s = clock.passed()
    return Row(
        network=known.network,
        target=goal.target.name,
        budget=budget,
        date=datetime.now(timezone.utc).isoformat(timespec="minutes"),
        device=str(fingerprint().facts.get("cpu_model")),
        runtime=f"{goal.target.runtime} {known.kept.runtime_version.split(' ')[0]}",
        dense_ms=dense.value,
        dense_interval_ms=(dense.lo, dense.hi),
        sites=len(known.map_.sites),
        offered=len(options),
        table=known.table.summary,
        table_s=known.seconds[0],
        table_cpu_s=known.seconds[1],
        rounds=tuple(zip(shares, measured, strict=True)),
        feasible=found.best is not None,
        plan=whole(known, found.attempts[best], shares[best]),
        flops=whole(known, flops, 1 - saved / known.map_.macs),
        seconds=seconds,
        cpu_s=cpu_s,
    )
