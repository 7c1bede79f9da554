"""The JSON schemas of what the verbs print, and of the recipe that they read.

Named by import path, so that asking for one does not load the others' libraries.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from pydantic import TypeAdapter

from pipeline.networks.references import resolve
from runtimes.errors import InputError

DOCUMENTS = {
    "bench": "pipeline.devices.bench:BenchDocument",
    "calibrate": "pipeline.devices.calibrate:CalibrateDocument",
    "check": "pipeline.devices.checking:CheckDocument",
    "collapse": "pipeline.verbs.collapsed:CollapseDocument",
    "compare": "pipeline.devices.compare:CompareDocument",
    "compress": "pipeline.reporting.documents:CompressDocument",
    "doctor": "pipeline.devices.doctor:DoctorDocument",
    "export": "pipeline.verbs.export_document:ExportDocument",
    "gate": "pipeline.devices.gate:GateDocument",
    "iterative": "pipeline.jobs.iterative_document:IterativeDocument",
    "map": "pipeline.verbs.mapped:MapDocument",
    "plan": "pipeline.reporting.plan_document:PlanDocument",
    "promote": "pipeline.devices.promote:PromoteDocument",
    "proof": "pipeline.devices.proving:ProofDocument",
    "recipe": "pipeline.recipe:Recipe",
    "report": "pipeline.reporting.documents:ReportDocument",
    "score": "pipeline.verbs.scoring:ScoreDocument",
    "table": "pipeline.reporting.table_document:TableDocument",
    "targets": "pipeline.devices.doctor:TargetsDocument",
}


def schema_of(name: str) -> dict[str, Any]:
    """The JSON schema of a verb's document, or of the recipe."""
    if name not in DOCUMENTS:
        close = get_close_matches(name, DOCUMENTS, n=1)
        raise InputError(
            f"no schema for {name!r}{f' (did you mean {close[0]}?)' if close else ''}; there are: "
            f"{', '.join(DOCUMENTS)}"
        )
    mode = "validation" if name == "recipe" else "serialization"
    document: Any = resolve(DOCUMENTS[name])
    return TypeAdapter(document).json_schema(mode=mode)
