"""A device whose times in eight bits follow from those of the same network in fp32."""

from __future__ import annotations

from dataclasses import replace

from known_times import CPU, Device
from plan_wish import QUIET

from pipeline.mapping import load_model, map_model
from pipeline.verbs.planned import Wish
from pipeline.verbs.precision_plan import plan_in_precisions
from runtimes.errors import NothingMeasured
from runtimes.onnx_file import read_declared

BOTH = ("fp32", "int8")


class NarrowDevice(Device):
    """Eight bits take a share of what the same network takes in fp32; `narrow` counts them."""

    def __init__(self):
        super().__init__()
        self.narrow = 0
        self.last: int | None = None  # disappears before this measurement
        self.share_of = lambda _: 0.5

    def measure(self, target, paths, **others):
        if len(self.calls) == self.last:
            raise NothingMeasured("the worker died during 'block' (signal SIGKILL)")
        return super().measure(target, paths, **others)

    def _ns(self, target, path, slower):
        if read_declared(path).precision != "int8":
            return super()._ns(target, path, slower)
        self.narrow += 1
        source = path.parent / "planned.onnx"
        whole = len(map_model(load_model(source)).sites) == 4
        return int(self.share_of(whole) * super()._ns(target, source, slower))


def plan(network, budget, precisions=BOTH, **more):
    asked = replace(Wish(network, (CPU,), (budget,), rounds=2, max_rounds=4), **more)
    return plan_in_precisions(asked, precisions, QUIET)


def kinds(document):
    """By row of the precisions: which, and whether there is depth with it."""
    return [(row.precision, bool(row.options)) for row in document.precisions]
