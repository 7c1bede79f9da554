"""A plan that measured far from its prediction is measured again: what is said of both times."""

from __future__ import annotations

import pytest
from known_times import CPU, Device
from plan_wish import QUIET, wish

from pipeline.plans import workbench
from pipeline.reporting.progress import Reporter
from pipeline.verbs.planned import plan_file


class Lucky(Device):
    """The first whole plan takes a `luck` of its time; all others, and it again, their own."""

    luck = 1.0

    def measure(self, target, paths, **others):
        self.share = self.luck if paths[1].name == "plan.onnx" else 1.0
        if self.share != 1.0:
            self.luck = 1.0
        return super().measure(target, paths, **others)

    def _ns(self, target, path, slower):
        share = self.share if path.name == "plan.onnx" else 1.0
        return int(share * super()._ns(target, path, slower))


@pytest.fixture
def device(monkeypatch) -> Lucky:
    made = Lucky()
    monkeypatch.setattr(workbench, "measure", made.measure)
    return made


def test_a_plan_that_met_once_and_then_not_is_not_feasible(device, make_network):
    network = make_network(convolutions=2)
    fastest = plan_file(wish(network, "0.01x"), QUIET).measured_ms[CPU].ratio
    assert fastest is not None
    device.luck = 0.8

    document = plan_file(wish(network, f"{0.95 * fastest:.6f}x"), QUIET)

    first, second = document.rounds[:2]
    assert first.options == second.options
    assert (first.meets[CPU], second.meets[CPU]) == (True, False)
    assert not document.feasible
    assert document.measured_ms[CPU].ratio == pytest.approx(fastest, rel=1e-3)
    assert f"({fastest:.2f}x dense" in document.reasons[0]


def test_the_second_measurement_of_a_plan_is_told_as_such(device, make_network, capsys):
    network = make_network(convolutions=2)
    device.luck = 0.8

    document = plan_file(wish(network, "0.6x"), Reporter())

    said = [line for line in capsys.readouterr().err.splitlines() if "replacements" in line]
    tried = [turn.options for turn in document.rounds]
    again = [options in tried[:index] for index, options in enumerate(tried)]
    assert again.count(True) == 1
    assert ["the same again: predicted" in line for line in said] == again
