"""``POST /v1/jobs/{id}/promote``: the winner of a benchmark becomes a model that serves."""

from __future__ import annotations

import asyncio

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway import openapi
from gateway.context import context_of
from gateway.middleware.keys import allow
from gateway.request.request_context import RequestContext
from gateway.resources import job_orders
from gateway.resources.job_documents import job_document
from gateway.resources.schemas.jobs import Job, JobBody
from gateway.resources.schemas.leaderboard import PromoteBody
from services.errors import Problem
from services.jobs.records import Job as Record

router = APIRouter(prefix="/v1/jobs", tags=["Benchmarks"])


@router.post(
    "/{job_id}/promote",
    summary="Promote a benchmark's winner",
    status_code=202,
    response_model=Job,
    responses=openapi.refusals(*openapi.ASKED, *openapi.WITH_BODY, 404, 409),
    openapi_extra=openapi.body(PromoteBody, {"promote": {"value": {"name": "my-pets", "dataset": "pets"}}}),
)
async def promote(request: Request, job_id: str) -> Response:
    """Submit the job that makes the best adapted result a live model: exported, checked, with its card."""
    caller = allow(request, "jobs")
    context = context_of(request)
    asked = await job_orders.read_as(request, PromoteBody)
    body = JobBody(kind="promote", parameters={"benchmark": job_id, **asked.model_dump(exclude_none=True)})
    services = context.jobs

    def accept() -> Record:
        services.jobs.get(caller.key_id, job_id)
        try:
            order = job_orders.order(context.job_kinds, body, None, RequestContext.of(request.scope).traceparent)
            order.kind.check(services, caller.key_id, order.parameters)
        except Problem as problem:
            pointer = (problem.pointer or "").removeprefix("/parameters")
            problem.pointer = pointer if pointer and pointer != "/benchmark" else None
            raise
        return services.jobs.submit(caller.key_id, order.record, max_queued=context.settings.max_jobs_queued)[0]

    job = await asyncio.to_thread(accept)
    return Response(
        orjson.dumps(job_document(job)), 202, {"Location": f"/v1/jobs/{job.id}"}, media_type="application/json"
    )
