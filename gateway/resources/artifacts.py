"""``/v1/artifacts``: content of any length, to be named in requests and jobs as ``artifact:{id}``."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from gateway import openapi
from gateway.context import context_of
from gateway.middleware.keys import allow
from gateway.resources.downloads import content_response
from gateway.resources.job_documents import artifact_document, list_document
from gateway.resources.receiving import received
from gateway.resources.schemas.artifacts import Artifact, ArtifactList
from gateway.resources.schemas.jobs import Deleted
from services.errors import Kind, Problem

router = APIRouter(prefix="/v1/artifacts", tags=["Artifacts"])

_MEDIA_TYPE = re.compile(r"^[a-z0-9!#$&^_.+-]{1,60}/[a-z0-9!#$&^_.+-]{1,60}$")
_ONE = openapi.refusals(*openapi.ASKED, 404, 503)
_BINARY = {"schema": {"type": "string", "format": "binary"}}


@router.post(
    "",
    summary="Upload an artifact",
    status_code=201,
    response_model=Artifact,
    responses=openapi.refusals(*openapi.ASKED, *openapi.WITH_BODY),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": _BINARY,
                "application/jsonl": _BINARY,
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["file"],
                        "properties": {"file": {"type": "string", "format": "binary"}},
                    }
                },
            },
        }
    },
)
async def upload(
    request: Request,
    name: Annotated[
        str | None, Query(min_length=1, max_length=200, description="What to call it; the file's name when absent")
    ] = None,
) -> Response:
    """Keep the body, or the part `file` of a form, as it is. Refused before it is read when there is no room for it."""
    caller = allow(request, "jobs")
    store = context_of(request).jobs.artifacts
    async with received(request, caller.key_id) as (draft, sent):
        media_type = sent.media_type if _MEDIA_TYPE.match(sent.media_type) else "application/octet-stream"
        called = _clean(name or sent.filename or "upload")
        kept = await asyncio.to_thread(store.add, draft, caller.key_id, called, media_type)

    return _json(artifact_document(kept), 201, {"Location": f"/v1/artifacts/{kept.id}"})


@router.get(
    "", summary="List artifacts", response_model=ArtifactList, responses=openapi.refusals(*openapi.ASKED, 422, 503)
)
async def list_artifacts(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most")] = 50,
    after: Annotated[str | None, Query(max_length=64, description="Only artifacts older than this id")] = None,
) -> Response:
    """The key's artifacts, uploaded or made by jobs, newest first."""
    caller = allow(request, "jobs")
    store = context_of(request).jobs.artifacts
    found = await asyncio.to_thread(lambda: store.list(caller.key_id, limit=limit + 1, after=after))
    data = [artifact_document(artifact) for artifact in found[:limit]]
    return _json(list_document(data, more=len(found) > limit))


@router.get("/{artifact_id}", summary="Show an artifact", response_model=Artifact, responses=_ONE)
async def show(request: Request, artifact_id: str) -> Response:
    """What is known about one artifact."""
    caller = allow(request, "jobs")
    store = context_of(request).jobs.artifacts
    return _json(artifact_document(await asyncio.to_thread(store.get, caller.key_id, artifact_id)))


@router.get(
    "/{artifact_id}/content",
    summary="Get the content of an artifact",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": _BINARY}},
        206: {"description": "The range that was asked for"},
        304: {"description": "The client has it already"},
        **openapi.refusals(*openapi.ASKED, 404, 416, 503),
    },
)
async def content(request: Request, artifact_id: str) -> Response:
    """The bytes as they were stored; `Range` is honoured."""
    caller = allow(request, "jobs")
    store = context_of(request).jobs.artifacts
    artifact = await asyncio.to_thread(store.get, caller.key_id, artifact_id)
    return content_response(request, store, artifact)


@router.delete("/{artifact_id}", summary="Delete an artifact", response_model=Deleted, responses=_ONE)
async def delete(request: Request, artifact_id: str) -> Response:
    """Remove an artifact."""
    caller = allow(request, "jobs")
    await asyncio.to_thread(context_of(request).jobs.artifacts.delete, caller.key_id, artifact_id)
    return _json({"id": artifact_id, "object": "artifact", "deleted": True})


def _clean(name: str) -> str:
    """A name without folders or control characters. Raises ``name-invalid`` when nothing is left of it."""
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(character for character in last if character.isprintable()).strip()[:200]
    if kept in ("", ".", ".."):
        raise Problem(
            Kind.INVALID, "name-invalid", "The name cannot be used", f"{name[:80]!r} names no file.", pointer="/name"
        )
    return kept


def _json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, "application/json")
