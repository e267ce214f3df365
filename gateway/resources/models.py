"""``/v1/models``: what can answer, in OpenAI's shape; loading, sharing and removing for owners and administrators."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway import openapi
from gateway.context import Context, context_of
from gateway.middleware.keys import allow
from gateway.model_access import allow_change, require_seen
from gateway.resources.schemas.models import DeletedModel, Model, ModelList
from models.catalog.document import document
from models.repository.writer import writing, writing_whole
from services.ownership import problems, refuse_needed
from services.runtime import announce
from services.runtime.problems import model_not_found
from services.runtime.protocol import ModelStatus

router = APIRouter(prefix="/v1/models", tags=["Models"])

LOCK_SECONDS = 5.0
"""How long a request waits for another that writes the same model: a pull holds its name for minutes."""

_STATES = ("READY", "LOADING", "UNLOADING", "UNAVAILABLE")
_CHANGES = openapi.refusals(*openapi.ASKED, 404, 409, 422, 503)


@router.get("", summary="List models", response_model=ModelList, responses=openapi.refusals(*openapi.ASKED))
async def list_models(request: Request) -> Response:
    """Every model of the platform and of your key, loaded or not, by name; of other keys those that are shared."""
    caller = allow(request, "infer")
    context = context_of(request)
    await context.backend.counted()
    by_name: dict[str, list[ModelStatus]] = {}
    for status in context.seen(caller):
        by_name.setdefault(status.name, []).append(status)
    return _json({"object": "list", "data": [_describe(context, by_name[name]) for name in sorted(by_name)]})


@router.get("/{name}", summary="Show a model", response_model=Model, responses=openapi.refusals(*openapi.ASKED, 404))
async def show_model(request: Request, name: str) -> Response:
    """One model with its card."""
    caller = allow(request, "infer")
    context = context_of(request)
    require_seen(context, caller, name)
    await context.backend.counted(name)
    return _json(_one(context, name))


@router.delete("/{name}", summary="Remove a model", response_model=DeletedModel, responses=_CHANGES)
async def remove_model(request: Request, name: str) -> Response:
    """Take a model out of service and remove it, with the towers that it was made with: by its owner, or an
    administrator. One that a pipeline of others is made of is refused with 409."""
    context = context_of(request)
    allow_change(request, name)
    root = context.settings.models_dir
    with problems(), ExitStack() as stack:
        held = await asyncio.to_thread(stack.enter_context, writing_whole(root, name, wait=LOCK_SECONDS))
        await asyncio.to_thread(refuse_needed, root, held.names)
        for one in (name, *sorted(held.names - {name})):
            await context.backend.unload(one)
        await asyncio.to_thread(held.remove, name)
    await asyncio.to_thread(announce.touch, context.settings)
    return _json({"id": name, "object": "model", "deleted": True})


@router.post("/{name}/load", summary="Load a model", response_model=Model, responses=_CHANGES)
async def load_model(request: Request, name: str) -> Response:
    """Load, or load anew, the versions that the repository has. If that fails, what served before goes on serving."""
    context = context_of(request)
    allow_change(request, name)
    await context.backend.load(name)
    return _json(_one(context, name))


@router.post("/{name}/unload", summary="Unload a model", response_model=Model, responses=_CHANGES)
async def unload_model(request: Request, name: str) -> Response:
    """Stop serving a model; requests in flight finish first."""
    context = context_of(request)
    allow_change(request, name)
    await context.backend.unload(name)
    return _json(_one(context, name))


@router.post("/{name}/share", summary="Share a model", response_model=Model, responses=_CHANGES)
async def share_model(request: Request, name: str) -> Response:
    """Let every key list and use a model that a job of your key has made."""
    return await _share(request, name, shared=True)


@router.delete("/{name}/share", summary="Stop sharing a model", response_model=Model, responses=_CHANGES)
async def unshare_model(request: Request, name: str) -> Response:
    """Keep a model to your key and to administrators again."""
    return await _share(request, name, shared=False)


async def _share(request: Request, name: str, *, shared: bool) -> Response:
    context = context_of(request)
    allow_change(request, name)

    def work() -> None:
        with problems(), writing(context.settings.models_dir, name, wait=LOCK_SECONDS) as held:
            held.share(name, shared)
        announce.touch(context.settings)

    await asyncio.to_thread(work)
    return _json(_one(context, name))


def _one(context: Context, name: str) -> dict[str, Any]:
    versions = [status for status in context.backend.index() if status.name == name]
    if not versions:
        raise model_not_found(name)
    return _describe(context, versions)


def _describe(context: Context, versions: Sequence[ModelStatus]) -> dict[str, Any]:
    """One model. The version shown is the newest that is ready, else the newest."""
    ordered = sorted(versions, key=lambda status: int(status.version), reverse=True)
    shown = min(ordered, key=lambda status: _STATES.index(status.state))
    card = shown.card

    return {
        "id": shown.name,
        "object": "model",
        "created": _created(context, shown),
        "owned_by": card.family if card else "unknown",
        "task": card.task if card else None,
        "version": shown.version,
        "state": shown.state,
        "runtime": shown.runtime,
        "providers": list(shown.providers),
        "statistics": _counters(context, shown),
        "versions": [{"version": status.version, "state": status.state, "reason": status.reason} for status in ordered],
        "card": document(card) if card else None,
        "shared": None if (ownership := context.owners.of(shown.name)) is None else ownership.shared,
    }


def _counters(context: Context, status: ModelStatus) -> dict[str, Any] | None:
    if status.state != "READY":
        return None
    counted = context.backend.statistics(status.name, status.version)
    return {
        "requests": counted.success_count,
        "failed": counted.fail_count,
        "inferences": counted.inference_count,
        "batches": counted.execution_count,
        "queue_seconds": round(counted.queue_ns * 1e-9, 6),
        "compute_seconds": round((counted.input_ns + counted.infer_ns + counted.output_ns) * 1e-9, 6),
        "pending": counted.pending,
    }


def _created(context: Context, status: ModelStatus) -> int:
    try:
        return int((context.settings.models_dir / status.name / status.version / "card.json").stat().st_mtime)
    except OSError:
        return 0


def _json(content: object) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
