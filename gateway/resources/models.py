"""``/v1/models``: what can answer, in OpenAI's shape; loading and unloading for administrators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway import openapi
from gateway.context import Context, context_of
from gateway.middleware.keys import allow
from gateway.resources.schemas.models import Model, ModelList
from models.catalog.document import document
from services.errors import Kind, Problem
from services.runtime.protocol import ModelStatus

router = APIRouter(prefix="/v1/models", tags=["Models"])

_STATES = ("READY", "LOADING", "UNLOADING", "UNAVAILABLE")
_CHANGES = openapi.refusals(*openapi.ASKED, 404, 409, 422, 503)


@router.get("", summary="List models", response_model=ModelList, responses=openapi.refusals(*openapi.ASKED))
async def list_models(request: Request) -> Response:
    """Every model of the repository, loaded or not, by name."""
    allow(request, "infer")
    context = context_of(request)
    await context.backend.counted()
    by_name: dict[str, list[ModelStatus]] = {}
    for status in context.backend.index():
        by_name.setdefault(status.name, []).append(status)
    data = [_describe(context, by_name[name]) for name in sorted(by_name)]
    return _json({"object": "list", "data": data})


@router.get("/{name}", summary="Show a model", response_model=Model, responses=openapi.refusals(*openapi.ASKED, 404))
async def show_model(request: Request, name: str) -> Response:
    """One model with its card."""
    allow(request, "infer")
    context = context_of(request)
    await context.backend.counted(name)
    return _json(_one(context, name))


@router.post("/{name}/load", summary="Load a model", response_model=Model, responses=_CHANGES)
async def load_model(request: Request, name: str) -> Response:
    """Load, or load anew, the versions that the repository has. If that fails, what served before goes on serving."""
    allow(request, "admin")
    context = context_of(request)
    _one(context, name)
    await context.backend.load(name)
    return _json(_one(context, name))


@router.post("/{name}/unload", summary="Unload a model", response_model=Model, responses=_CHANGES)
async def unload_model(request: Request, name: str) -> Response:
    """Stop serving a model; requests in flight finish first."""
    allow(request, "admin")
    context = context_of(request)
    _one(context, name)
    await context.backend.unload(name)
    return _json(_one(context, name))


def _one(context: Context, name: str) -> dict[str, Any]:
    versions = [status for status in context.backend.index() if status.name == name]
    if not versions:
        raise Problem(
            Kind.NOT_FOUND,
            "model-not-found",
            "There is no such model",
            f"The repository has no model {name[:80]!r}.",
            remedy="GET /v1/models lists the models; `sightline models pull` adds one.",
        )
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
