"""Read what a plan says is to be merged, and a file of affine stand-ins.

plan.json        {"options": ["layer1.0/merge-5x5@0-1+shortcut", ...]}   ids of `shoal map`, or
                 {"merges": [["layer1.0.conv1.weight", "layer1.0.conv2.weight"], ...]}
stand-ins.json   {"layer1.0.relu#0": {"scale": [...], "shift": [...]}, ...}   or one number each
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.collapse.linearising import StandIn
from pipeline.mapping import map_model
from runtimes.errors import InputError

Groups = list[list[str]]


class PlanFile(BaseModel):
    options: list[str] = []
    merges: Groups = []


class StandInEntry(BaseModel):
    model_config = ConfigDict(extra="forbid")
    scale: float | list[float] = 1.0
    shift: float | list[float] = 0.0


def merges_of_plan(path: Path, model: ir.Model, *, max_kernel: int) -> tuple[Groups, list[str]]:
    """Groups of weight names to merge, and the sites to linearise for them."""
    content = _read(path)
    if isinstance(content, dict) and isinstance(content.get("plan"), dict):
        content = content["plan"]  # a `shoal plan` document
    try:
        plan = PlanFile.model_validate(_with_option_ids(content))
    except ValidationError as e:
        raise InputError(f"{path} is not a plan: {e.errors()[0]['msg']}") from e
    found = map_model(model, max_kernel=max_kernel)
    options = {option.id: option for option in found.options}
    segments = {segment.id: segment for segment in found.segments}
    groups, sites = list(plan.merges), []
    for name in plan.options:
        option = options.get(name)
        if option is None:
            raise InputError(
                f"{path} names the option {name!r}, which this model does not have; "
                "make the plan from the same model"
            )
        if option.kind != "merge":
            raise InputError(
                f"{path} plans {name!r}: a {option.kind} has to be trained, it is no exact merge; "
                "use `shoal compress`"
            )
        operators = segments[option.segment].operators[option.first : option.last + 1]
        groups.append([operator.weight for operator in operators])
        sites += option.sites
    return groups, sites


def _with_option_ids(content: Any) -> Any:
    """Options may be written as ids, or as records that have one."""
    if not isinstance(content, dict) or not isinstance(content.get("options"), list):
        return content
    ids = [one.get("id") if isinstance(one, dict) else one for one in content["options"]]
    return {**content, "options": ids}


def read_stand_ins(path: Path) -> dict[str, StandIn]:
    content = _read(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a JSON object of site ids")
    stand_ins = {}
    for site, entry in content.items():
        try:
            given = StandInEntry.model_validate(entry)
        except ValidationError as e:
            raise InputError(
                f"{path}: the stand-in of {site!r} is not "
                f'{{"scale": numbers, "shift": numbers}}: {e.errors()[0]["msg"]}'
            ) from e
        stand_ins[site] = StandIn(np.atleast_1d(given.scale), np.atleast_1d(given.shift))
    return stand_ins


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except OSError as e:
        raise InputError(
            f"{path} cannot be read ({e.strerror}); --merge takes cheaper, always or a plan's path"
        ) from e
    except ValueError as e:
        raise InputError(f"{path} is not JSON: {e}") from e
