"""The JSON schemas of what the verbs print, and of the recipe that they read.

Named by import path, so that asking for one does not load the others' libraries.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from pydantic import TypeAdapter

from pipeline.references import resolve
from runtimes.errors import InputError

DOCUMENTS = {
    "bench": "pipeline.bench:BenchDocument",
    "calibrate": "pipeline.calibrate:CalibrateDocument",
    "check": "pipeline.checking:CheckDocument",
    "collapse": "pipeline.collapsed:CollapseDocument",
    "compare": "pipeline.compare:CompareDocument",
    "compress": "pipeline.documents:CompressDocument",
    "doctor": "pipeline.doctor:DoctorDocument",
    "export": "pipeline.export_document:ExportDocument",
    "gate": "pipeline.gate:GateDocument",
    "iterative": "pipeline.iterative_document:IterativeDocument",
    "map": "pipeline.mapped:MapDocument",
    "plan": "pipeline.plan_document:PlanDocument",
    "promote": "pipeline.promote:PromoteDocument",
    "proof": "pipeline.proving:ProofDocument",
    "recipe": "pipeline.recipe:Recipe",
    "report": "pipeline.documents:ReportDocument",
    "score": "pipeline.scoring:ScoreDocument",
    "table": "pipeline.table_document:TableDocument",
    "targets": "pipeline.doctor:TargetsDocument",
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
