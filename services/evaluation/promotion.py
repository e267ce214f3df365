"""Does a promotion: the winner of a benchmark, adapted once more with its settings, becomes a model version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from services.errors import Kind, Problem
from services.evaluation.named import parts, resolve
from services.evaluation.parameters import BenchmarkParameters
from services.evaluation.promotion_kind import PromoteParameters
from services.evaluation.protocols import Protocol
from services.evaluation.reports.results import Cell, Record
from services.evaluation.reports.winner import Choice, winner_of
from services.evaluation.suites.sources import Sources
from services.evaluation.tasks.classification.subject import Array, Subject
from services.finetuning import run as finetune
from services.finetuning.kind import FinetuneParameters
from services.finetuning.run import Language
from services.jobs.context import JobContext
from services.ownership import Viewer
from services.runtime.protocol import Backend


def run(ctx: JobContext[PromoteParameters]) -> Mapping[str, Any]:
    """See :class:`services.evaluation.promotion_kind.PromoteParameters`."""
    asked, services = ctx.parameters, ctx.services
    job = services.jobs.get(ctx.owner, asked.benchmark)
    choice = Choice(asked.dataset, asked.model, asked.protocol)
    cell = winner_of(job.id, job.kind, job.state, job.result, choice)
    document = _results(ctx, job.id)
    record = best_draw([Record.of(unit) for unit in document["units"]], cell)
    protocol = Protocol.model_validate(document["protocols"][cell.protocol])
    benchmark = BenchmarkParameters.model_validate(document["parameters"])
    sources = Sources(ctx, benchmark, lambda name, done, total: ctx.step())
    spec = sources.sets[cell.dataset]
    names = resolve(ctx.settings.models_dir, cell.model, Viewer.of(services.engine, ctx.owner))
    parameters = FinetuneParameters(
        dataset=sources.adopted(cell.dataset).id,
        model=names.encoder,
        method=str(protocol.method),
        name=asked.name,
        options=protocol.options,
        init=protocol.init,
        templates=list(spec.templates),
        shots=cell.shots,
        learning_rate=record.learning_rate or None,
        weight_decay=record.weight_decay if record.learning_rate else None,
        epochs=benchmark.epochs,
        seed=record.seed,
    )

    async def rows(backend: Backend) -> Array:
        known = sources.knowledge(cell.dataset) if protocol.knowledge is not None else None
        with sources.material(cell.dataset) as material:
            # Over the version of the encoder that is fine-tuned: a language that has another one is refused.
            async with Subject.open(backend, replace(names, name=names.encoder), ctx.settings) as subject:
                return await subject.rows(material, protocol, known)

    language = Language(parts(ctx.settings.models_dir, names), rows)
    made = finetune.run(ctx.with_parameters(parameters), language, spec.metric)
    told = {"protocol": cell.protocol, "benchmark_score": cell.mean, "benchmark_draw": record.score}
    return {**made, "benchmark": job.id, **told}


def best_draw(records: list[Record], cell: Cell) -> Record:
    """Of the winner's seeds the one that did best on validation images: test images choose nothing here."""
    own = [
        record
        for record in records
        if record.score is not None
        and (record.model, record.dataset, record.protocol, record.shots)
        == (cell.model, cell.dataset, cell.protocol, cell.shots)
    ]
    return max(own, key=lambda record: record.validation_score or 0.0)


def _results(ctx: JobContext[PromoteParameters], job_id: str) -> dict[str, Any]:
    artifacts = ctx.services.artifacts
    for made in artifacts.of_job(job_id):
        if made.name == "results.json":
            document: dict[str, Any] = orjson.loads(b"".join(artifacts.read(made)))
            return document
    raise Problem(
        Kind.CONFLICT,
        "job-not-promotable",
        "The results of the benchmark are gone",
        f"The job {job_id} has no results.json.",
        remedy="Run the benchmark again.",
    )
