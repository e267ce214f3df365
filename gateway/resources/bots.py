"""``/v1/bots``: task bots, their versions and databases; another key's bots do not exist."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from gateway import openapi
from gateway.context import context_of
from gateway.middleware.keys import allow
from gateway.request.parsing import read_body
from gateway.resources.job_documents import list_document
from gateway.resources.job_orders import read_as
from gateway.resources.schemas import bots as schemas
from services.dialog.checks import Finding, check_schema, read_schema
from services.dialog.store import BotRecord, VersionRecord, finding_document
from services.errors import Kind, Problem

router = APIRouter(prefix="/v1/bots", tags=["Task bots"])

_ONE = openapi.refusals(*openapi.ASKED, 404, 503)
_SENT = openapi.refusals(*openapi.ASKED, *openapi.WITH_BODY, 404, 409)


@router.post(
    ":validate",
    summary="Check a schema",
    response_model=schemas.Findings,
    responses=_SENT,
    openapi_extra=openapi.body(schemas.ChangeBody, {}),
)
async def validate(request: Request) -> Response:
    """Everything that is wrong with a schema, or will not work, with a pointer each; nothing is kept."""
    allow(request, "jobs")
    body = await read_as(request, schemas.ChangeBody)

    def work() -> list[Finding]:
        schema, findings = read_schema(body.task_schema)
        return findings if schema is None else check_schema(schema)

    findings = await asyncio.to_thread(work)
    valid = all(finding.level != "error" for finding in findings)
    document = {"object": "bot.validation", "valid": valid, "findings": [finding_document(one) for one in findings]}
    return json_response(document)


@router.post(
    "",
    summary="Make a bot",
    status_code=201,
    response_model=schemas.Bot,
    responses=_SENT,
    openapi_extra=openapi.body(schemas.BotBody, {}),
)
async def create(request: Request) -> Response:
    """Make a bot from a schema. It can be talked to once a ``train-bot`` job has made a version."""
    caller = allow(request, "jobs")
    body = await read_as(request, schemas.BotBody)
    rows = None if body.rows is None else orjson.dumps(body.rows)
    store = context_of(request).bots.store
    bot, findings = await asyncio.to_thread(store.create, caller.key_id, body.name, body.task_schema, rows)
    return json_response(bot_document(bot, findings, whole=True), 201, {"Location": f"/v1/bots/{bot.id}"})


@router.get("", summary="List bots", response_model=schemas.BotList, responses=openapi.refusals(*openapi.ASKED, 422))
async def list_bots(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most")] = 50,
    after: Annotated[str | None, Query(max_length=64, description="Only bots older than this id")] = None,
) -> Response:
    """The key's bots, newest first."""
    caller = allow(request, "jobs")
    store = context_of(request).bots.store
    found = await asyncio.to_thread(lambda: store.list(caller.key_id, limit=limit + 1, after=after))
    return json_response(list_document([bot_document(bot) for bot in found[:limit]], more=len(found) > limit))


@router.get("/{bot}", summary="Show a bot", response_model=schemas.Bot, responses=_ONE)
async def show(request: Request, bot: str) -> Response:
    """One bot, by id or name, with its schema."""
    found = await bot_of(request, bot, "jobs")
    return json_response(bot_document(found, whole=True))


@router.put(
    "/{bot}",
    summary="Change a bot's schema",
    response_model=schemas.Bot,
    responses=_SENT,
    openapi_extra=openapi.body(schemas.ChangeBody, {}),
)
async def change(request: Request, bot: str) -> Response:
    """Another schema for the versions to come; those that are there stay as they are."""
    found = await bot_of(request, bot, "jobs")
    body = await read_as(request, schemas.ChangeBody)
    store = context_of(request).bots.store
    changed, findings = await asyncio.to_thread(store.change, found.owner, found.id, body.task_schema, None)
    return json_response(bot_document(changed, findings, whole=True))


@router.put(
    "/{bot}/database",
    summary="Replace a bot's rows",
    response_model=schemas.Bot,
    responses=_SENT,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "text/csv": {"schema": {"type": "string"}},
                "application/json": {"schema": {"type": "array", "items": {"type": "object"}}},
                "application/vnd.sqlite3": {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
)
async def replace_rows(request: Request, bot: str) -> Response:
    """Rows as CSV, JSON or an SQLite file, told apart by their content. All of them replace all of the old, at once."""
    found = await bot_of(request, bot, "jobs")
    rows = bytes(await read_body(request.receive))
    if not rows:
        raise Problem(
            Kind.INVALID, "body-missing", "The body is empty", "There are no rows in it.", remedy="Send a CSV file."
        )
    store = context_of(request).bots.store
    changed, findings = await asyncio.to_thread(store.change, found.owner, found.id, None, rows)
    return json_response(bot_document(changed, findings, whole=True))


@router.delete("/{bot}", summary="Delete a bot", responses=_ONE)
async def delete(request: Request, bot: str) -> Response:
    """Remove a bot with its versions, dialogs and corrections."""
    found = await bot_of(request, bot, "jobs")
    await asyncio.to_thread(context_of(request).bots.store.delete, found.owner, found.id)
    return json_response({"id": found.id, "object": "bot", "deleted": True})


@router.get("/{bot}/versions", summary="List versions", response_model=schemas.BotVersionList, responses=_ONE)
async def versions(request: Request, bot: str) -> Response:
    """Versions with what was measured when they were made, newest first."""
    found = await bot_of(request, bot, "jobs")
    made = await asyncio.to_thread(context_of(request).bots.store.versions, found)
    return json_response(list_document([version_document(found, one) for one in made], more=False))


@router.post(
    "/{bot}/versions/{number}/promote",
    summary="Serve a version",
    response_model=schemas.Bot,
    responses=_SENT,
    openapi_extra=openapi.body(schemas.ServeBody, {}),
)
async def promote(request: Request, bot: str, number: int) -> Response:
    """Give a version to new sessions, or to a share of them; an older one is a rollback. Open sessions keep theirs.

    One that reads taught turns worse than what is served now is refused with 409 unless ``force``.
    """
    found = await bot_of(request, bot, "jobs")
    body = await read_as(request, schemas.ServeBody)
    store = context_of(request).bots.store

    def work() -> BotRecord:
        chosen = store.version(found, number)
        if not body.force and found.serving is not None and found.serving != number:
            _refuse_worse(store.version(found, found.serving), chosen)
        if body.canary_share is not None and found.serving is not None:
            return store.serve(found, serving=found.serving, canary=number, share=body.canary_share)
        return store.serve(found, serving=number)

    return json_response(bot_document(await asyncio.to_thread(work)))


def _refuse_worse(serving: VersionRecord, chosen: VersionRecord) -> None:
    """By what both were measured on; a version made before it was measured is not compared."""
    for figure, least in (("simulated", 0.02), ("taught", 0.0)):
        name = "joint_goal" if figure == "simulated" else "right"
        old, new = serving.measured.get(figure, {}).get(name), chosen.measured.get(figure, {}).get(name)
        if old is not None and new is not None and new < old - least and chosen.number > serving.number:
            raise Problem(
                Kind.CONFLICT,
                "bot-version-worse",
                "The version does worse",
                f"On {figure} turns {name} is {new:.3f}; version {serving.number}, which is served, has {old:.3f}.",
                remedy='Train it again with more dialogs, or send {"force": true}.',
            )


async def bot_of(request: Request, reference: str, scope: Any) -> BotRecord:
    """The caller's bot of that id or name; raises what keys and bots do."""
    caller = allow(request, scope)
    return await asyncio.to_thread(context_of(request).bots.store.get, caller.key_id, reference)


def bot_document(bot: BotRecord, findings: list[Finding] | None = None, *, whole: bool = False) -> dict[str, Any]:
    """As JSON; the schema only where ``whole``."""
    document: dict[str, Any] = {
        "id": bot.id,
        "object": "bot",
        "name": bot.name,
        "serving": bot.serving,
        "canary": bot.canary,
        "canary_share": bot.canary_share,
        "rows": bot.rows_artifact is not None,
        "created_at": bot.created_at,
        "updated_at": bot.updated_at,
    }
    if whole:
        document["schema"] = bot.schema
    if findings is not None:
        document["findings"] = [finding_document(one) for one in findings]
    return document


def version_document(bot: BotRecord, version: VersionRecord) -> dict[str, Any]:
    """As JSON."""
    return {
        "id": f"{bot.id}@{version.number}",
        "object": "bot.version",
        "bot": bot.id,
        "version": version.number,
        "engine": version.engine,
        "encoder": version.encoder,
        "measured": version.measured,
        "job": version.job_id,
        "serving": version.number == bot.serving,
        "created_at": version.created_at,
    }


def json_response(document: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """``document`` as it is sent."""
    return Response(orjson.dumps(document), status, headers, "application/json")
