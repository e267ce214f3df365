"""``/v2``: the Open Inference Protocol, so that any of its clients (``tritonclient``, KServe's) works unchanged.

Refusals are ``{"error": "..."}``. Statuses follow Triton where it has one (400 for whatever is wrong with a request,
404, 503) and HTTP where it has none: 401, 403, 413, 429 with Retry-After for a full queue, 504. Whether a model is
ready is answered 200 or 4xx, as the protocol says; whether the server is, 200 or 503, as load balancers want it.
"""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway.context import Context, context_of
from gateway.middleware.keys import allow
from gateway.model_access import allow_change, may_change
from gateway.oip import body, documents, openapi, schemas
from gateway.oip.control_request import parameters_of, policy_of, read_document
from gateway.oip.infer_request import parse
from gateway.oip.infer_response import respond
from gateway.request.disconnect import while_connected
from gateway.request.request_context import RequestContext
from models.catalog.card import Card
from services.errors import Kind, Problem
from services.runtime.loaded import components_of

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

_JSON = "application/json"


# The server


@router.get("", summary="Server metadata", response_model=schemas.ServerMetadata, responses=openapi.ASKED)
async def server_metadata(request: Request) -> Response:
    """Name, version and extensions."""
    allow(request, "infer")
    return _json(documents.server())


@router.get("/health/live", summary="The process lives", response_model=schemas.ServerLive)
async def server_live(request: Request) -> Response:
    """200 as long as the event loop turns."""
    return _json({"live": True})


@router.get(
    "/health/ready",
    summary="The process takes work",
    response_model=schemas.ServerReady,
    responses=openapi.SERVER_READY,
)
async def server_ready(request: Request) -> Response:
    """200 once models are loaded, 503 before that and from the moment the process is told to stop."""
    ready = context_of(request).takes_work
    return _json({"ready": ready}, 200 if ready else 503)


# Models


@router.get(
    "/models/stats", summary="Statistics of all models", response_model=schemas.StatisticsList, responses=openapi.ASKED
)
async def all_statistics(request: Request) -> Response:
    """Statistics of every version that is ready."""
    caller = allow(request, "infer")
    context = context_of(request)
    await context.backend.counted()
    ready = [status for status in context.seen(caller) if status.state == "READY" and status.card is not None]
    return _json({"model_stats": [_statistics(context, status.card) for status in ready if status.card is not None]})


@router.get(
    "/models/{model}", summary="Model metadata", response_model=schemas.ModelMetadata, responses=openapi.ABOUT_MODEL
)
@router.get(
    "/models/{model}/versions/{version}",
    summary="Model metadata of a version",
    response_model=schemas.ModelMetadata,
    responses=openapi.ABOUT_MODEL,
)
async def model_metadata(request: Request, model: str, version: str | None = None) -> Response:
    """Inputs and outputs."""
    card = await _card(request, model, version)
    index = context_of(request).backend.index()
    ready = [status.version for status in index if status.name == model and status.state == "READY"]
    return _json(documents.metadata(card, ready))


@router.get(
    "/models/{model}/ready",
    summary="The model can answer",
    response_model=schemas.ModelReady,
    responses=openapi.MODEL_READY,
)
@router.get(
    "/models/{model}/versions/{version}/ready",
    summary="A version of the model can answer",
    response_model=schemas.ModelReady,
    responses=openapi.MODEL_READY,
)
async def model_ready(request: Request, model: str, version: str | None = None) -> Response:
    """200, or 4xx as the protocol has it: 404 for a model that does not exist, 400 for one that is not loaded."""
    caller = allow(request, "infer")
    context = context_of(request)
    backend = context.backend
    await backend.settled(model, deadline=RequestContext.of(request.scope).deadline)
    try:
        await context.look_up(caller, model, version)
    except Problem as problem:
        return _json({"name": model, "ready": False}, 404 if problem.kind is Kind.NOT_FOUND else 400)
    return _json({"name": model, "ready": True})


@router.get(
    "/models/{model}/config",
    summary="Model configuration",
    response_model=schemas.ModelConfig,
    responses=openapi.ABOUT_MODEL,
)
@router.get(
    "/models/{model}/versions/{version}/config",
    summary="Model configuration of a version",
    response_model=schemas.ModelConfig,
    responses=openapi.ABOUT_MODEL,
)
async def model_config(request: Request, model: str, version: str | None = None) -> Response:
    """The configuration in Triton's form."""
    return _json(documents.config(await _card(request, model, version)))


@router.get(
    "/models/{model}/stats",
    summary="Model statistics",
    response_model=schemas.StatisticsList,
    responses=openapi.ABOUT_MODEL,
)
@router.get(
    "/models/{model}/versions/{version}/stats",
    summary="Model statistics of a version",
    response_model=schemas.StatisticsList,
    responses=openapi.ABOUT_MODEL,
)
async def model_statistics(request: Request, model: str, version: str | None = None) -> Response:
    """Statistics of one version, or of every version that is ready: as this process has counted them, or the Triton
    servers that run it."""
    context = context_of(request)
    card = await _card(request, model, version)
    await context.backend.counted(model)
    if version is not None:
        return _json({"model_stats": [_statistics(context, card)]})
    cards = [status.card for status in context.backend.index() if status.name == model and status.state == "READY"]
    return _json({"model_stats": [_statistics(context, card) for card in cards if card is not None]})


@router.post(
    "/models/{model}/infer",
    summary="Infer",
    response_model=schemas.InferAnswer,
    responses=openapi.CHANGE,
    openapi_extra=openapi.INFER_BODY,
)
@router.post(
    "/models/{model}/versions/{version}/infer",
    summary="Infer with a version",
    response_model=schemas.InferAnswer,
    responses=openapi.CHANGE,
    openapi_extra=openapi.INFER_BODY,
)
async def infer(request: Request, model: str, version: str | None = None) -> Response:
    """Run a model on tensors, in JSON or in the binary form."""
    caller = allow(request, "infer")
    context = context_of(request)
    request_context = RequestContext.of(request.scope)
    with await context.look_up(caller, model, version, deadline=request_context.deadline) as handle:
        card = handle.card
        request_context.model, request_context.task = card.name, "infer"
        with context.admission.admit():
            sent = await body.read(request, context.settings.max_body_bytes)
            with request_context.stages.decoding():
                asked = parse(sent, card)
            outputs = None if asked.outputs is None else [want.name for want in asked.outputs]
            work = handle.infer(asked.inputs, outputs, asked.options(request_context.options()))
            answer = await while_connected(request.receive, work)
        request_context.stages.ran(answer)
        labels: dict[str, tuple[str, ...]] = {}
        for want in asked.outputs or ():
            if want.classes and want.name == card.logits:
                labels[want.name] = documents.labels(card, handle.folder)

    return respond(asked, card.name, answer, labels)


async def _infer(request: Request) -> Response:
    return await infer(request, **request.path_params)


FAST_ROUTES = {
    "/v2/models/{model}/infer": _infer,
    "/v2/models/{model}/versions/{version}/infer": _infer,
}
"""The same endpoint for ``gateway.app`` to put before everything else: finding it among FastAPI's routes and resolving
its two path parameters cost 0.18 ms a request, more than a small model takes (measured with FastAPI 0.165)."""


# The repository


@router.post(
    "/repository/index",
    summary="Index of the repository",
    response_model=list[schemas.IndexEntry],
    responses=openapi.INDEX,
    openapi_extra=openapi.INDEX_BODY,
)
async def repository_index(request: Request) -> Response:
    """Every version, loaded or not; with `ready` true only those that are."""
    caller = allow(request, "infer")
    only_ready = (await read_document(request)).get("ready", False)
    index = context_of(request).seen(caller)
    return _json([documents.index_entry(one) for one in index if one.state == "READY" or only_ready is not True])


@router.post(
    "/repository/models/{model}/load",
    summary="Load a model",
    responses=openapi.CHANGE,
    openapi_extra=openapi.CHANGE_BODY,
)
async def load(request: Request, model: str) -> Response:
    """Load, or load anew. `parameters.config` may hold a `version_policy` and nothing else, and no files may be sent:
    what a model is, is said in the repository only."""
    allow_change(request, model)
    policy = policy_of(parameters_of(await read_document(request)))
    await context_of(request).backend.load(model, policy)
    return _json({})


@router.post(
    "/repository/models/{model}/unload",
    summary="Unload a model",
    responses=openapi.CHANGE,
    openapi_extra=openapi.CHANGE_BODY,
)
async def unload(request: Request, model: str) -> Response:
    """Stop serving a model; requests in flight finish first. `unload_dependents`: the components of a pipeline, too."""
    context = context_of(request)
    caller = allow_change(request, model)
    backend = context.backend
    names = {model: None}
    if parameters_of(await read_document(request)).get("unload_dependents") is True:
        cards = [status.card for status in backend.index() if status.name == model and status.card is not None]
        parts = [name for card in cards for name in components_of(card)]
        names.update({name: None for name in parts if may_change(context, caller, name)})
    for name in names:
        await backend.unload(name)
    return _json({})


@router.api_route("/systemsharedmemory/{rest:path}", methods=["GET", "POST"], include_in_schema=False)
@router.api_route("/cudasharedmemory/{rest:path}", methods=["GET", "POST"], include_in_schema=False)
@router.api_route("/trace/{rest:path}", methods=["GET", "POST"], include_in_schema=False)
@router.api_route("/logging", methods=["GET", "POST"], include_in_schema=False)
async def unsupported(request: Request, rest: str = "") -> Response:
    """Triton's extensions that let a client reach into the server: memory regions, trace and log files."""
    allow(request, "infer")
    return _json({"error": "This server does not have shared memory, trace or logging control."}, 501)


# Helpers


def _json(content: object, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type=_JSON)


async def _card(request: Request, model: str, version: str | None) -> Card:
    """The card of a ready model, for an answer about it."""
    caller, context = allow(request, "infer"), context_of(request)
    deadline = RequestContext.of(request.scope).deadline
    await context.backend.settled(model, deadline=deadline)
    return (await context.look_up(caller, model, version, deadline=deadline)).card


def _statistics(context: Context, card: Card) -> dict[str, Any]:
    return documents.statistics(card, context.backend.statistics(card.name, card.version))
