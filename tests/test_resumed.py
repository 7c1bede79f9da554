"""A plan that was cut short goes on where it was, on a device of known times that goes away."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
from known_times import CPU, OPENVINO, Device

from pipeline.feedback import Goal, Measured
from pipeline.planning import Plan
from pipeline.plans import workbench
from pipeline.plans.resumed import Parts, Resumed
from pipeline.reporting.progress import Reporter
from pipeline.verbs.planned import Wish, plan_file
from profiles.budget import UNLIMITED
from profiles.statistics import Estimate
from profiles.store import Store, registry_folder
from profiles.target import find_target
from runtimes.errors import NothingMeasured

QUIET = Reporter(quiet=True)


class Fragile(Device):
    """Disappears before its measurement number `last`, counted from nought; None: never."""

    last: int | None = None

    def measure(self, target, paths, **others):
        if len(self.calls) == self.last:
            raise NothingMeasured("the worker died during 'block' (signal SIGKILL)")
        return super().measure(target, paths, **others)


@pytest.fixture
def device(monkeypatch) -> Fragile:
    made = Fragile()
    monkeypatch.setattr(workbench, "measure", made.measure)
    return made


def wish(model: Path) -> Wish:
    return Wish(model, (CPU, OPENVINO), ("0.6x", "0.9x"), rounds=2, max_rounds=4)


def test_wherever_the_device_disappears_nothing_is_measured_twice(device, network):
    plan_file(wish(network), QUIET)
    alone = len(device.calls)
    assert alone > 5
    with closing(Store(registry_folder())) as store:
        store.connection.execute("DELETE FROM latencies")
    device.calls.clear()

    for last in range(alone):
        device.last = last
        with pytest.raises(NothingMeasured, match="the same command goes on there"):
            plan_file(wish(network), QUIET)
        assert len(device.calls) == last
    device.last = None
    document = plan_file(wish(network), QUIET)

    assert len(device.calls) == alone
    assert document.feasible


def test_a_plan_that_is_finished_is_measured_anew(device, network):
    plan_file(wish(network), QUIET)
    first = len(device.calls)
    device.calls.clear()

    plan_file(wish(network), QUIET)

    assert len(device.calls) == first - 2  # the table of both targets is kept, nothing else


def test_a_plan_that_is_asked_for_again_is_measured_again_and_both_are_remembered(tmp_path):
    class Bench:
        def __init__(self):
            self.ratios = iter((0.8, 0.9))

        def planned(self, _plan):
            return tmp_path / "plan.onnx"

        def compare(self, _path, target):
            value = next(self.ratios)
            ratio = Estimate(value, value, value, 0.95)
            return Measured(target.name, ratio, ratio, ratio, 2, 2)

    plan, goals = Plan(("a",), {}, {}, 0.0, "optimal", 0.0), [Goal(find_target(CPU), UNLIMITED)]

    with closing(Store(tmp_path)) as store:
        seen = [
            [device.attempt(plan, goals).measured[0].ratio.value for _ in range(2)]
            for device in (
                Resumed(cast(Any, bench), Parts(store, "job")) for bench in [Bench()] * 2
            )
        ]

    assert seen == [[0.8, 0.9], [0.8, 0.9]]
