"""A frontier where savings do not add up: spread over what whole plans measured, not over sums."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import pytest
from known_times import CPU, by_macs
from test_feedback import DENSE_MS, IDS, LOSSES, OPTIONS, Device, exactly
from test_frontier import QUIET
from test_resumed import Fragile

from pipeline.feedback import Attempt, Goal, judged, limit_of, search
from pipeline.mapping import load_model, map_model
from pipeline.planning import LatencyTable
from pipeline.plans import workbench
from pipeline.plans.frontier import keeps_everything, measured_frontier, spread
from pipeline.verbs.planned import Wish, plan_file
from profiles.budget import UNLIMITED, parse_budget
from profiles.store import Store, registry_folder
from profiles.target import find_target
from runtimes.errors import NothingMeasured

SAVINGS = {"a": 3.5, "b": 3.0, "c": 2.5, "d": 3.0}  # 12 of 10 ms, of which 0.6 come true
TABLE = LatencyTable(CPU, exactly(DENSE_MS), {i: exactly(-s) for i, s in SAVINGS.items()})
FREE_GOAL = Goal(find_target(CPU), UNLIMITED)
WHOLE = frozenset(IDS)


def frontier(device: Device, known: Sequence[Attempt] = (), *, count: int = 4):
    dense = keeps_everything({CPU: DENSE_MS})
    kept = judged(dense, Device(SAVINGS).attempt(dense, [FREE_GOAL]).measured, [FREE_GOAL])
    return measured_frontier(
        device,
        OPTIONS,
        LOSSES,
        [TABLE],
        [FREE_GOAL],
        count,
        known=[kept, *known],
        say=lambda _: None,
        on_attempt=lambda _: None,
    )


def within(device: Device, budget: str) -> tuple[Attempt, ...]:
    goals = [Goal(find_target(CPU), parse_budget(budget))]
    return search(
        device, OPTIONS, LOSSES, [TABLE], goals, max_rounds=3, on_attempt=lambda _: None
    ).attempts


def errors(rows: Sequence[Attempt]) -> list[float]:
    return [row.plan.predicted_ms[CPU] / DENSE_MS / row.measured[0].ratio.value - 1 for row in rows]


def test_what_the_table_alone_predicts_below_zero_is_predicted_as_measured():
    alone = spread(OPTIONS, LOSSES, [limit_of(TABLE, FREE_GOAL)], 4)

    rows = frontier(Device(SAVINGS, efficiency=0.6))

    assert alone[-1].predicted_ms[CPU] == pytest.approx(-2.0)
    assert [set(row.plan.options) for row in (rows[0], rows[-1])] == [set(), set(IDS)]
    assert rows[-1].plan.predicted_ms[CPU] == pytest.approx(2.8, rel=0.01)
    assert errors(rows) == pytest.approx([0.0] * 4, abs=0.02)


def test_the_fastest_is_measured_first_and_every_plan_once():
    device = Device(SAVINGS, efficiency=0.6)

    rows = frontier(device)

    assert device.tried[0] == WHOLE
    assert len(set(device.tried)) == len(device.tried) == len(rows) - 1


def test_a_fastest_plan_that_was_tried_for_a_budget_keeps_its_measurement():
    device = Device(SAVINGS, efficiency=0.6)
    tried = within(device, "0.2x")
    before = len(device.tried)

    rows = frontier(device, tried)

    assert WHOLE in device.tried[:before]
    assert WHOLE not in device.tried[before:]
    assert rows[-1].measured == next(a for a in tried if set(a.plan.options) == WHOLE).measured


def test_what_was_tried_for_a_budget_corrects_what_the_fastest_is_then_found_to_be():
    """A slower plan was tried before, and all together save still less of what they should."""

    class Saturated(Device):
        def attempt(self, plan, goals):
            self.efficiency = 0.6 if len(plan.options) == len(IDS) else 0.8
            return super().attempt(plan, goals)

    device = Saturated(SAVINGS)
    tried = within(device, "0.7x")

    rows = frontier(device, tried, count=5)

    assert WHOLE not in [frozenset(a.plan.options) for a in tried]
    assert device.tried[len(tried)] == WHOLE
    assert len(set(device.tried)) == len(device.tried)
    assert all(row.plan.predicted_ms[CPU] > 0 for row in rows)
    assert errors(rows)[-1] == pytest.approx(0.0, abs=0.05)


@pytest.fixture
def device(monkeypatch) -> Fragile:
    """Whole plans save 0.6 of the MACs that they save; one option alone all of them."""
    made = Fragile()
    monkeypatch.setattr(workbench, "measure", made.measure)
    return made


def test_a_frontier_cut_short_anywhere_measures_nothing_twice(device, make_network):
    network = make_network(convolutions=3)
    dense = by_macs(map_model(load_model(network)))
    fewest = len(map_model(load_model(network)).operators) - 1

    def short(found):
        saved = dense - by_macs(found)
        return dense - saved * (1.0 if len(found.operators) >= fewest else 0.6)

    device.times[CPU] = short
    wish = Wish(network, (CPU,), rounds=2, frontier=4, max_kernel=5)
    whole = plan_file(wish, QUIET)
    alone = len(device.calls)
    with closing(Store(registry_folder())) as store:
        store.connection.execute("DELETE FROM latencies")
    device.calls.clear()

    for last in range(alone):
        device.last = last
        with pytest.raises(NothingMeasured):
            plan_file(wish, QUIET)
        assert len(device.calls) == last
    device.last = None

    assert plan_file(wish, QUIET).frontier == whole.frontier
    assert len(device.calls) == alone
    assert all(row.predicted_ms[CPU] > 0 for row in whole.frontier)
