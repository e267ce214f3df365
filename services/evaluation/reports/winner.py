"""Which result of a benchmark is promoted. Pure Python: the gateway asks before a job is accepted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.errors import Kind, Problem
from services.evaluation.reports.leaderboard import cell_of
from services.evaluation.reports.results import Cell


@dataclass(frozen=True, slots=True)
class Choice:
    """What narrows the search for a winner."""

    dataset: str | None = None
    model: str | None = None
    protocol: str | None = None


def winner_of(job_id: str, kind: str, state: str, result: Mapping[str, Any] | None, choice: Choice) -> Cell:
    """The best adapted result on one data set; of equal ones the one that trains fewer parameters.

    Raises ``job-not-promotable``, ``promotion-ambiguous`` or ``no-winner``.
    """
    if kind != "benchmark" or state != "succeeded" or result is None:
        raise Problem(
            Kind.CONFLICT,
            "job-not-promotable",
            "Only a finished benchmark has a winner",
            f"The job {job_id} is a {kind} job, {state}.",
            remedy="Name a benchmark job that has succeeded; GET /v1/jobs?kind=benchmark lists yours.",
        )

    datasets = list(result["datasets"])
    if choice.dataset is None and len(datasets) > 1:
        raise Problem(
            Kind.INVALID,
            "promotion-ambiguous",
            "Say which data set the model is for",
            f"The benchmark has {len(datasets)} data sets, each with classes of its own: {', '.join(datasets)}.",
            pointer="/dataset",
            remedy='Send "dataset".',
        )

    dataset = choice.dataset or datasets[0]
    cells = [cell_of(content) for content in result["cells"]]
    found = [
        cell
        for cell in cells
        if cell.dataset == dataset and choice.model in (None, cell.model) and choice.protocol in (None, cell.protocol)
    ]
    adapted = [cell for cell in found if cell.method is not None]
    if not adapted:
        raise _none(job_id, dataset, found)

    best = max(adapted, key=lambda cell: (cell.mean, -cell.trainable))
    rival = max(found, key=lambda cell: cell.mean)
    if rival.method is None and choice.protocol is None and rival.mean > best.mean:
        raise Problem(
            Kind.CONFLICT,
            "no-winner",
            "The best needs no adaptation",
            f"{rival.model!r} scores {rival.mean:.3f} zero-shot on {dataset!r}, more than any adaptation "
            f"(best: {best.protocol}, {best.mean:.3f}). It is live already.",
            pointer="/protocol",
            remedy=f'Classify with "model": "{rival.model}" and the labels, or send "protocol" to promote one anyway.',
        )

    return best


def _none(job_id: str, dataset: str, found: list[Cell]) -> Problem:
    why = "only zero-shot results, whose model is live already" if found else "no such result"
    return Problem(
        Kind.INVALID,
        "no-winner",
        "There is nothing to promote",
        f"The benchmark {job_id} has {why} for {dataset!r}.",
        pointer="/dataset",
        remedy="Its results.json lists models, data sets and protocols; run one that adapts.",
    )
