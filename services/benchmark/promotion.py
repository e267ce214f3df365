"""Does a promotion: the winner of a benchmark, adapted once more with its settings, becomes a model version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from services.adaptation import finetune
from services.benchmark import preparing, registry
from services.benchmark.named import resolve
from services.benchmark.parameters import BenchmarkParameters
from services.benchmark.protocols import Protocol
from services.benchmark.results import Cell, Record
from services.benchmark.winner import Choice, winner_of
from services.datasets.opening import dataset_store
from services.errors import Kind, Problem
from services.jobs.context import JobContext
from services.jobs.kinds.finetune import FinetuneParameters
from services.jobs.kinds.promote import PromoteParameters


def run(ctx: JobContext[PromoteParameters]) -> Mapping[str, Any]:
    """See :class:`services.jobs.kinds.promote.PromoteParameters`."""
    asked, services = ctx.parameters, ctx.services
    job = services.jobs.get(ctx.owner, asked.benchmark)
    choice = Choice(asked.dataset, asked.model, asked.protocol)
    cell = winner_of(job.id, job.kind, job.state, job.result, choice)
    document = _results(ctx, job.id)
    record = best_draw([Record.of(unit) for unit in document["units"]], cell)
    protocol = Protocol.model_validate(document["protocols"][cell.protocol])
    benchmark = BenchmarkParameters.model_validate(document["parameters"])
    dataset, templates = _dataset(ctx, benchmark, cell)
    names = resolve(ctx.settings.models_dir, cell.model)
    parameters = FinetuneParameters(
        dataset=dataset,
        model=names.encoder,
        method=str(protocol.method),
        name=asked.name,
        options=protocol.options,
        init=protocol.init,
        templates=list(templates),
        shots=cell.shots,
        learning_rate=record.learning_rate or None,
        weight_decay=record.weight_decay if record.learning_rate else None,
        epochs=benchmark.epochs,
        seed=record.seed,
    )
    made = finetune.run(ctx.with_parameters(parameters))
    return {**made, "benchmark": job.id, "protocol": cell.protocol, "benchmark_score": cell.mean}


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


def _dataset(
    ctx: JobContext[PromoteParameters], benchmark: BenchmarkParameters, cell: Cell
) -> tuple[str, tuple[str, ...]]:
    """The data set as the key's own (a suite's is taken over under the suite's name), and its templates."""
    if registry.is_own(benchmark.suite):
        return benchmark.suite.removeprefix(registry.OWN), tuple(benchmark.templates)
    chosen = registry.suite(benchmark.suite)
    [spec] = registry.choose(chosen, (cell.dataset,))
    material = preparing.prepare(chosen, spec, ctx.settings, lambda name, done, total: ctx.step())
    store = dataset_store(ctx.settings, ctx.services.engine, ctx.services.artifacts)
    return store.adopt(ctx.owner, f"{chosen.name}-{spec.name}", material.file).id, spec.templates
