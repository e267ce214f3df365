"""``/v1/jobs``: long work. Submitted once, watched, cancelled, fetched; another key's jobs do not exist."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from gateway import openapi
from gateway.context import Context, context_of
from gateway.middleware.keys import allow
from gateway.request.body import NoNul
from gateway.request.request_context import RequestContext
from gateway.resources import job_orders
from gateway.resources.downloads import content_response
from gateway.resources.job_documents import job_document, list_document
from gateway.resources.schemas.jobs import Deleted, Job, JobBody, JobEventList, JobList, JobState, WebhookLog
from gateway.stream import EVENT_SCHEMA, EventStream
from services.errors import Kind, Problem
from services.jobs import events, webhooks
from services.jobs.records import FINAL
from services.jobs.records import Job as Record
from services.storage.artifacts import Artifact

router = APIRouter(prefix="/v1/jobs", tags=["Jobs"])

_EVENTS_AT_ONCE = 1000
_ONE = openapi.refusals(*openapi.ASKED, 404, 503)
_CHANGED = openapi.refusals(*openapi.ASKED, 404, 409, 503)


@router.post(
    "",
    summary="Submit a job",
    status_code=202,
    response_model=Job,
    responses=openapi.refusals(*openapi.ASKED, *openapi.WITH_BODY, 404, 409),
    openapi_extra={
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "The same key and body again answer the same job; another body is refused with 409",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            }
        ],
        **openapi.body(
            JobBody, {"batch": {"value": {"kind": "batch", "parameters": {"input": "artifact:art_01J..."}}}}
        ),
    },
)
async def submit(request: Request) -> Response:
    """Accept a job. It is on the disk when this answers, and will end exactly once, whatever dies meanwhile."""
    caller = allow(request, "jobs")
    context = context_of(request)
    key = job_orders.idempotency_key(request)
    body = await job_orders.read_as(request, JobBody)
    services = context.jobs
    traceparent = RequestContext.of(request.scope).traceparent
    order = await asyncio.to_thread(job_orders.order, context.job_kinds, body, key, traceparent)
    # What a job needed may be gone by the time its submission is repeated: the key comes before the checks.
    if (known := await asyncio.to_thread(services.jobs.known, caller.key_id, order.record)) is not None:
        return await _replayed(context, known)
    if body.webhook is not None:
        await webhooks.check_address(body.webhook.url, context.resolver, private=context.settings.webhook_private)

    def accept() -> tuple[Record, bool]:
        order.kind.check(services, caller.key_id, order.parameters)
        return services.jobs.submit(caller.key_id, order.record, max_queued=context.settings.max_jobs_queued)

    job, new = await asyncio.to_thread(accept)
    return _json(job_document(job), 202, {"Location": f"/v1/jobs/{job.id}"}) if new else await _replayed(context, job)


@router.get("", summary="List jobs", response_model=JobList, responses=openapi.refusals(*openapi.ASKED, 422, 503))
async def list_jobs(
    request: Request,
    state: Annotated[list[JobState] | None, Query(description="Only jobs in these states")] = None,
    kind: Annotated[list[NoNul] | None, Query(description="Only jobs of these kinds", max_length=16)] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most")] = 50,
    after: Annotated[NoNul | None, Query(max_length=64, description="Only jobs older than this id")] = None,
) -> Response:
    """The key's jobs, newest first."""
    caller = allow(request, "jobs")
    jobs = context_of(request).jobs.jobs

    def read() -> tuple[list[Record], dict[str, Any]]:
        found = jobs.list(caller.key_id, states=state or (), kinds=kind or (), limit=limit + 1, after=after)
        return found, jobs.outputs([job.id for job in found[:limit]]) if found else {}

    found, outputs = await asyncio.to_thread(read)
    data = [job_document(job, outputs.get(job.id, ()), listed=True) for job in found[:limit]]
    return _json(list_document(data, more=len(found) > limit))


@router.get("/{job_id}", summary="Show a job", response_model=Job, responses=_ONE)
async def show(request: Request, job_id: str) -> Response:
    """One job."""
    caller = allow(request, "jobs")
    context = context_of(request)
    job = await asyncio.to_thread(context.jobs.jobs.get, caller.key_id, job_id)
    return _json(job_document(job, await _outputs(context, job)))


@router.delete("/{job_id}", summary="Delete a job", response_model=Deleted, responses=_CHANGED)
async def delete(request: Request, job_id: str) -> Response:
    """Remove a job that has ended, and everything it made."""
    caller = allow(request, "jobs")
    await asyncio.to_thread(context_of(request).jobs.jobs.delete, caller.key_id, job_id)
    return _json({"id": job_id, "object": "job", "deleted": True})


@router.post("/{job_id}/cancel", summary="Cancel a job", response_model=Job, responses=_CHANGED)
async def cancel(request: Request, job_id: str) -> Response:
    """End a waiting job now; a running one stops at its next step."""
    caller = allow(request, "jobs")
    context = context_of(request)
    job = await asyncio.to_thread(context.jobs.jobs.cancel, caller.key_id, job_id)
    return _json(job_document(job, await _outputs(context, job)))


@router.post("/{job_id}/retry", summary="Retry a job", response_model=Job, status_code=202, responses=_CHANGED)
async def retry(request: Request, job_id: str) -> Response:
    """Queue a failed or cancelled job again; it goes on from its last checkpoint."""
    caller = allow(request, "jobs")
    context = context_of(request)
    limit = context.settings.max_jobs_queued
    job = await asyncio.to_thread(lambda: context.jobs.jobs.retry(caller.key_id, job_id, max_queued=limit))
    return _json(job_document(job, await _outputs(context, job)), 202, {"Location": f"/v1/jobs/{job.id}"})


@router.get(
    "/{job_id}/events",
    summary="Watch a job",
    response_model=JobEventList,
    responses={
        200: {"content": {"text/event-stream": {"schema": EVENT_SCHEMA}}},
        204: {"description": "The job has ended and everything was told: do not come again"},
        **openapi.refusals(*openapi.ASKED, 404, 422, 503),
    },
    openapi_extra={
        "parameters": [
            {
                "name": "Last-Event-ID",
                "in": "header",
                "description": "Only what followed this event; browsers send it when they connect again",
                "schema": {"type": "string"},
            }
        ]
    },
)
async def watch(
    request: Request,
    job_id: str,
    after: Annotated[int, Query(ge=0, le=2**31 - 1, description="Only what followed this event")] = 0,
) -> Response:
    """What happens to a job, as it happens: server-sent events until it has ended.

    With `Accept: application/json`, what has happened so far, as a list.
    """
    caller = allow(request, "jobs")
    context = context_of(request)
    job = await asyncio.to_thread(context.jobs.jobs.get, caller.key_id, job_id)
    head = RequestContext.of(request.scope).head
    last = head.get(b"last-event-id", b"")
    if last.isdigit() and len(last) < 10:
        after = int(last)

    if head.get(b"accept", b"").startswith(b"application/json"):
        found = await asyncio.to_thread(events.after, context.jobs.engine, job.id, after, _EVENTS_AT_ONCE + 1)
        data = [{"id": e.seq, "event": e.event, "data": e.data, "at": e.at} for e in found[:_EVENTS_AT_ONCE]]
        return _json({"object": "list", "data": data, "has_more": len(found) > _EVENTS_AT_ONCE})

    if job.state in FINAL:
        heads = await asyncio.to_thread(events.heads, context.jobs.engine, [job.id])
        if job.id in heads and heads[job.id].seq <= after:
            return Response(status_code=204)

    held = contextlib.ExitStack()
    held.enter_context(context.streams.one_of(caller.key_id))
    return EventStream(context.job_stream.watch(job.id, after), request.scope, held=held)


@router.get(
    "/{job_id}/artifacts/{name}",
    summary="Get what a job made",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
        206: {"description": "The range that was asked for"},
        304: {"description": "The client has it already"},
        **openapi.refusals(*openapi.ASKED, 404, 416, 503),
    },
)
async def artifact(request: Request, job_id: str, name: str) -> Response:
    """The content of one artifact; `Range` is honoured."""
    caller = allow(request, "jobs")
    context = context_of(request)
    job = await asyncio.to_thread(context.jobs.jobs.get, caller.key_id, job_id)
    for made in await _outputs(context, job):
        if made.name == name:
            return content_response(request, context.jobs.artifacts, made)

    raise Problem(
        Kind.NOT_FOUND,
        "artifact-not-found",
        "Artifact does not exist",
        f"The job {job.id} ({job.state}) has made no {name[:128]!r}.",
        remedy=f"GET /v1/jobs/{job.id} lists what it has made.",
    )


@router.get("/{job_id}/webhooks", summary="Show the webhook log", response_model=WebhookLog, responses=_ONE)
async def deliveries(request: Request, job_id: str) -> Response:
    """Every try to deliver the job's webhooks."""
    caller = allow(request, "jobs")
    services = context_of(request).jobs

    def read() -> list[webhooks.Attempt]:
        return webhooks.attempts(services.engine, services.jobs.get(caller.key_id, job_id).id)

    log = await asyncio.to_thread(read)
    return _json({"object": "list", "data": log})


async def _replayed(context: Context, job: Record) -> Response:
    headers = {"Location": f"/v1/jobs/{job.id}", "Idempotent-Replayed": "true"}
    return _json(job_document(job, await _outputs(context, job)), 202, headers)


async def _outputs(context: Context, job: Record) -> tuple[Artifact, ...]:
    return tuple(await asyncio.to_thread(context.jobs.artifacts.of_job, job.id))


def _json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, "application/json")
