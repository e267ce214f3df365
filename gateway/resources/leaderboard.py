"""``/v1/leaderboard``: what the key's benchmarks have measured, best first, and two of them against each other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from gateway import openapi
from gateway.context import context_of
from gateway.middleware.keys import allow
from gateway.resources.schemas.leaderboard import Comparison, Leaderboard
from services.datasets.opening import dataset_store
from services.errors import Kind, Problem
from services.evaluation.reports import comparison, leaderboard
from services.evaluation.reports.leaderboard import Mode, Run, Standing, View
from services.evaluation.reports.results import Cell
from services.evaluation.suites import registry
from services.jobs.services import JobServices

router = APIRouter(prefix="/v1/leaderboard", tags=["Benchmarks"])

JOBS_READ = 2_000
"""The newest benchmarks of a key that a leaderboard looks through."""
_PAGE = 200


@router.get(
    "",
    summary="Show a leaderboard",
    response_model=Leaderboard,
    responses=openapi.refusals(*openapi.ASKED, 404, 422, 503),
)
async def show(
    request: Request,
    *,
    suite: Annotated[
        str,
        Query(
            min_length=1,
            max_length=200,
            description="A suite, or `dataset:` and the name or id of a data set of yours",
            examples=["pocket"],
        ),
    ],
    view: Annotated[
        Literal["score", "parameters", "shots"],
        Query(description="Sort by average, by parameter efficiency, or by few shots first"),
    ] = "score",
    mode: Annotated[
        Literal["strict", "reference"], Query(description="Clean measurements, or those in the published toolkit's way")
    ] = "strict",
    shots: Annotated[
        int | None, Query(ge=-1, le=100_000, description="Only this many images of a class; 0 zero-shot, -1 all images")
    ] = None,
) -> Response:
    """Results of your finished benchmarks on one suite. Lines that lack a data set have no place."""
    caller = allow(request, "jobs")
    services = context_of(request).jobs
    found = await asyncio.to_thread(_leaderboard, services, caller.key_id, suite, view=view, mode=mode, shots=shots)

    return _json(found)


@router.get(
    "/compare",
    summary="Compare two benchmarks",
    response_model=Comparison,
    responses=openapi.refusals(*openapi.ASKED, 404, 409, 422, 503),
)
async def compare(
    request: Request,
    left: Annotated[str, Query(min_length=1, max_length=64, description="Id of a finished benchmark of yours")],
    right: Annotated[str, Query(min_length=1, max_length=64, description="Another; what is told is right minus left")],
) -> Response:
    """Data set by data set, with what chance could have done."""
    caller = allow(request, "jobs")
    services = context_of(request).jobs

    def work() -> dict[str, Any]:
        sides = [_run(services, caller.key_id, job_id) for job_id in (left, right)]
        return _comparison(sides[0], sides[1], comparison.compare(*sides))

    return _json(await asyncio.to_thread(work))


def _leaderboard(
    services: JobServices, owner: str, asked: str, *, view: View, mode: Mode, shots: int | None
) -> dict[str, Any]:
    name, datasets, beside = _suite(services, owner, asked)
    runs = [run for run in _runs(services, owner) if run.suite == name and run.mode == mode]
    lines = leaderboard.standings(reversed(runs), datasets, view, beside)
    cells = chain.from_iterable(line.cells for line in lines)
    measured = {cell.dataset for _, cell in cells}

    curves = leaderboard.growth(lines)
    if shots is not None:
        lines = leaderboard.placed([line for line in lines if line.shots == (None if shots < 0 else shots)])

    return {
        "object": "leaderboard",
        "suite": name,
        "view": view,
        "mode": mode,
        "datasets": [*datasets, *(one for one in beside if one in measured)],
        "data": [_standing(line) for line in lines],
        "curves": [_curve(curve) for curve in curves],
    }


def _curve(curve: leaderboard.Growth) -> dict[str, Any]:
    points = [{"shots": at, "average": average} for at, average in curve.points]
    return {"model": curve.model, "protocol": curve.protocol, "points": points}


def _suite(services: JobServices, owner: str, asked: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Name the suite as results call it, the data sets of its average, and those beside it."""
    if not registry.is_own(asked):
        found = registry.suite(asked)
        return asked, found.averaged, tuple(one.name for one in found.datasets if not one.in_average)
    store = dataset_store(services.settings, services.engine, services.artifacts)
    name = store.get(owner, asked.removeprefix(registry.OWN)).name
    return f"{registry.OWN}{name}", (name,), ()


def _runs(services: JobServices, owner: str) -> Iterator[Run]:
    """Finished benchmarks, newest first."""
    after, seen = None, 0
    while seen < JOBS_READ:
        page = services.jobs.list(owner, states=("succeeded",), kinds=("benchmark",), limit=_PAGE, after=after)
        for job in page:
            if job.result is not None:
                yield Run.of(job.id, job.result)

        if len(page) < _PAGE:
            return
        after, seen = page[-1].id, seen + len(page)


def _run(services: JobServices, owner: str, job_id: str) -> Run:
    job = services.jobs.get(owner, job_id)
    if job.kind != "benchmark" or job.state != "succeeded" or job.result is None:
        raise Problem(
            Kind.CONFLICT,
            "job-not-comparable",
            "Only finished benchmarks can be compared",
            f"The job {job.id} is a {job.kind} job, {job.state}.",
            remedy="GET /v1/jobs?kind=benchmark&state=succeeded lists those that can.",
        )
    return Run.of(job.id, job.result)


def _standing(line: Standing) -> dict[str, Any]:
    return {
        "place": line.place,
        "model": line.model,
        "protocol": line.protocol,
        "method": line.method,
        "init": line.init,
        "shots": line.shots,
        "average": line.average,
        "stderr": line.stderr,
        "parameter_efficiency": line.efficiency,
        "trainable_parameters": line.trainable,
        "complete": line.complete,
        "scores": [_score(job, cell) for job, cell in line.cells],
    }


def _score(job: str, cell: Cell) -> dict[str, Any]:
    fields = ("dataset", "metric", "mean", "stderr", "low", "high", "test_images")
    return {**{name: getattr(cell, name) for name in fields}, "seeds": list(cell.seeds), "job": job}


def _comparison(left: Run, right: Run, found: comparison.Comparison) -> dict[str, Any]:
    return {
        "object": "comparison",
        "left": left.job,
        "right": right.job,
        "data": [
            {
                "dataset": own.dataset,
                "protocol": own.protocol,
                "shots": own.shots,
                "metric": own.left.metric,
                "left": _side(own.left),
                "right": _side(own.right),
                "difference": own.difference,
                "stderr": own.stderr,
                "p": own.p,
                "significant": own.significant,
            }
            for own in found.differences
        ],
        "mean_difference": found.mean_difference,
        "wins": found.wins,
        "losses": found.losses,
        "sign_test_p": found.p_signs,
        "note": found.note,
    }


def _side(cell: Cell) -> dict[str, Any]:
    return {"model": cell.model, "mean": cell.mean, "stderr": cell.stderr, "seeds": list(cell.seeds)}


def _json(content: object) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
