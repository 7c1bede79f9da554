"""`shoal score`: the importance of every activation of a recipe's network, by one criterion.

The dense network is the recipe's: found in its workspace, or trained into it first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Group
from rich.table import Table

from pipeline import criteria
from pipeline.activations import SiteStatistics, rate_bound
from pipeline.criteria import Evidence
from pipeline.datasets import cache_folder, load_dataset
from pipeline.edits.tracing import trace
from pipeline.jobs.dense import calibrated, dense_network
from pipeline.jobs.job import Job
from pipeline.recipe import Recipe
from pipeline.reporting.progress import Reporter
from pipeline.workspace import Workspace

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredSite:
    """`never_on` of the neurons had no positive pre-activation in any sample, `never_off` no other.

    `rank` 1 is removed first.
    """

    id: str
    kind: str
    score: float
    rank: int
    never_on: int
    never_off: int
    neurons: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreDocument:
    """What was seen in none of `samples` happens in less than `unseen_below` of them."""

    schema: Literal["shoal.score/1"] = "shoal.score/1"
    name: str
    model: str
    dataset: str
    criterion: str
    options: dict[str, Any]
    samples: int
    unseen_below: float
    confidence: float
    sites: tuple[ScoredSite, ...]


def score(
    recipe: Recipe,
    reporter: Reporter,
    *,
    criterion: str,
    options: Mapping[str, Any] | None = None,
    out: Path,
) -> ScoreDocument:
    """Score every site in graph order; the workspace `out` keeps the network and its statistics."""
    ranked = criteria.make(criterion, options)
    with Workspace(out, resume=True) as workspace:
        splits = load_dataset(
            recipe.data.dataset,
            cache=cache_folder(),
            reporter=reporter,
            folders=[recipe.folder],
            length=recipe.data.length,
        )
        job = Job(recipe, splits, workspace, reporter)
        model, folder = dense_network(job)
        dense = trace(model, job.example)
        statistics = calibrated(job, dense, folder)
        reporter.say(f"scoring {len(statistics.sites)} sites by {criterion} ...")
        evidence = Evidence(dense, statistics, splits.calibration.first(len(job.calibration)))
        scores = ranked.score(evidence)
    ranks = {site.id: rank for rank, site in enumerate(scores.ranking(), 1)}
    return ScoreDocument(
        name=recipe.name,
        model=recipe.model.spec,
        dataset=splits.name,
        criterion=criterion,
        options=dict(options or {}),
        samples=scores.samples,
        unseen_below=rate_bound(scores.samples),
        confidence=CONFIDENCE,
        sites=tuple(
            _site(statistics[s.id], s.score, ranks[s.id], tuple(s.neurons.tolist()))
            for s in scores.sites
        ),
    )


def _site(known: SiteStatistics, value: float, rank: int, neurons: tuple[float, ...]) -> ScoredSite:
    return ScoredSite(
        id=known.id,
        kind=known.kind,
        score=value,
        rank=rank,
        never_on=int(known.never_on().sum()),
        never_off=int(known.never_off().sum()),
        neurons=neurons,
    )


def show_score(document: ScoreDocument) -> Group:
    table = Table(title=f"{document.criterion} on {document.model}, {document.dataset}")
    for name in ("rank", "site", "kind", "score", "neurons", "never on", "never off"):
        table.add_column(name, justify="left" if name in {"site", "kind"} else "right")
    for site in sorted(document.sites, key=lambda site: site.rank):
        counts = (len(site.neurons), site.never_on, site.never_off)
        table.add_row(
            f"{site.rank}", site.id, site.kind, f"{site.score:.4g}", *(f"{n}" for n in counts)
        )
    never = (
        f"over {document.samples} samples; what none of them showed happens in less than "
        f"{document.unseen_below:.2%} ({document.confidence:.0%} confidence)"
    )
    return Group(table, never)
