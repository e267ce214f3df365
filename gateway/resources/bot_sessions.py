"""``/v1/bots/{bot}/sessions`` and ``/dialogs``: talk to a bot, look at what was said, teach it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from gateway import openapi
from gateway.context import context_of
from gateway.request.request_context import RequestContext
from gateway.resources.bots import bot_of, json_response
from gateway.resources.job_documents import list_document
from gateway.resources.job_orders import read_as
from gateway.resources.schemas import bots as schemas
from services.dialog.sessions import KeptTurn, Session
from services.dialog.store import BotRecord
from services.dialog.talking import Resolve, act_document
from services.runtime.protocol import ModelHandle

router = APIRouter(prefix="/v1/bots/{bot}", tags=["Task bots"])

_ONE = openapi.refusals(*openapi.ASKED, 404, 503)
_SENT = openapi.refusals(*openapi.ASKED, *openapi.WITH_BODY, 404, 409)
_PREVIEWED = 500
"""Logged turns that a preview looks through, the newest."""


@router.post(
    "/sessions",
    summary="Open a session",
    status_code=201,
    response_model=schemas.Session,
    responses=_SENT,
    openapi_extra=openapi.body(schemas.SessionBody, {}),
)
async def open_session(request: Request, bot: str) -> Response:
    """A dialog with the version that is served, in which nothing was said."""
    found = await bot_of(request, bot, "infer")
    body = await read_as(request, schemas.SessionBody)
    session = await context_of(request).bots.begin(found, body.version)
    return json_response(session_document(session), 201, {"Location": f"/v1/bots/{found.id}/sessions/{session.id}"})


@router.get("/sessions/{session}", summary="Show a session", response_model=schemas.Session, responses=_ONE)
async def show_session(request: Request, bot: str, session: str) -> Response:
    """Where a dialog stands."""
    _, kept = await _session(request, bot, session)
    return json_response(session_document(kept))


@router.delete("/sessions/{session}", summary="Delete a session", responses=_ONE)
async def delete_session(request: Request, bot: str, session: str) -> Response:
    """Remove a dialog and what was said in it. Corrections of it stay."""
    _, kept = await _session(request, bot, session)
    await asyncio.to_thread(context_of(request).bots.sessions.delete, kept)
    return json_response({"id": kept.id, "object": "bot.session", "deleted": True})


@router.post(
    "/sessions/{session}/turns",
    summary="Say something",
    response_model=schemas.TurnAnswer,
    responses=_SENT,
    openapi_extra=openapi.body(schemas.TurnBody, {}),
)
async def say(request: Request, bot: str, session: str) -> Response:
    """Answer a user's text. If it fails the session stands as before; the same ``turn`` again is answered as before."""
    found, kept = await _session(request, bot, session)
    body = await read_as(request, schemas.TurnBody)
    bots, options = context_of(request).bots, RequestContext.of(request.scope).options()
    answered = await bots.turn(found, kept, body.text, resolver(request), options, number=body.turn)
    return json_response(turn_document(kept.id, answered.number, body.text, answered.document))


@router.get("/sessions/{session}/turns", summary="List turns", response_model=schemas.TurnList, responses=_ONE)
async def turns(request: Request, bot: str, session: str) -> Response:
    """What was said in a session, in its order."""
    _, kept = await _session(request, bot, session)
    found = await asyncio.to_thread(context_of(request).bots.sessions.turns, kept)
    return json_response(list_document([_kept(one) for one in found], more=False))


@router.post("/sessions/{session}/undo", summary="Undo the last turn", response_model=schemas.Session, responses=_SENT)
async def undo(request: Request, bot: str, session: str) -> Response:
    """The session stands where its last turn began."""
    _, kept = await _session(request, bot, session)
    store = context_of(request).bots.sessions
    return json_response(session_document(await asyncio.to_thread(store.back_to, kept, kept.turn - 1)))


@router.post(
    "/sessions/{session}/reset", summary="Begin a session anew", response_model=schemas.Session, responses=_SENT
)
async def reset(request: Request, bot: str, session: str) -> Response:
    """The session stands as if nothing had been said."""
    _, kept = await _session(request, bot, session)
    store = context_of(request).bots.sessions
    return json_response(session_document(kept if kept.turn == 0 else await asyncio.to_thread(store.back_to, kept, 0)))


@router.post("/sessions/{session}/close", summary="Close a session", response_model=schemas.Session, responses=_SENT)
async def close(request: Request, bot: str, session: str) -> Response:
    """The session takes no more turns."""
    _, kept = await _session(request, bot, session)
    return json_response(session_document(await asyncio.to_thread(context_of(request).bots.sessions.close, kept)))


@router.post(
    "/sessions/{session}/branch",
    summary="Branch a session",
    status_code=201,
    response_model=schemas.Session,
    responses=_SENT,
    openapi_extra=openapi.body(schemas.BranchBody, {}),
)
async def branch(request: Request, bot: str, session: str) -> Response:
    """A new session that stands where a turn of this one began."""
    found, kept = await _session(request, bot, session)
    body = await read_as(request, schemas.BranchBody)
    store = context_of(request).bots.sessions

    def work() -> Session:
        return store.open(found, kept.version, store.turn(kept, body.turn).before)

    return json_response(session_document(await asyncio.to_thread(work)), 201)


@router.get(
    "/dialogs",
    summary="List dialogs to review",
    response_model=schemas.SessionList,
    responses=openapi.refusals(*openapi.ASKED, 404, 422, 503),
)
async def dialogs(
    request: Request,
    bot: str,
    status: Annotated[Literal["unreviewed", "approved", "rejected"] | None, Query(description="Only these")] = None,
    outcome: Annotated[Literal["open", "done", "fallback"] | None, Query(description="How the last turn ended")] = None,
    below: Annotated[
        float | None, Query(ge=0, le=1, description="Only dialogs with a turn less sure than this")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most")] = 50,
    after: Annotated[str | None, Query(max_length=64, description="Only dialogs older than this id")] = None,
) -> Response:
    """Dialogs with a bot, newest first: what there is to teach."""
    found = await bot_of(request, bot, "jobs")
    store = context_of(request).bots.sessions
    kept = await asyncio.to_thread(
        lambda: store.dialogs(found, status=status, outcome=outcome, below=below, limit=limit + 1, after=after)
    )
    return json_response(list_document([session_document(one) for one in kept[:limit]], more=len(kept) > limit))


@router.put(
    "/dialogs/{session}",
    summary="Review a dialog",
    response_model=schemas.Session,
    responses=_SENT,
    openapi_extra=openapi.body(schemas.ReviewBody, {}),
)
async def review(request: Request, bot: str, session: str) -> Response:
    """Say of a dialog that it was looked at."""
    _, kept = await _session(request, bot, session, "jobs")
    body = await read_as(request, schemas.ReviewBody)
    store = context_of(request).bots.sessions
    return json_response(session_document(await asyncio.to_thread(store.review, kept, body.status)))


@router.post(
    "/dialogs/{session}/turns/{number}/corrections",
    summary="Correct a turn",
    status_code=201,
    response_model=schemas.Correction,
    responses=_SENT,
    openapi_extra=openapi.body(schemas.CorrectionBody, {}),
)
async def correct(request: Request, bot: str, session: str, number: int) -> Response:
    """Say what a turn means. It acts at once for the same and nearly the same text, and the next version learns it."""
    found, kept = await _session(request, bot, session, "jobs")
    body = await read_as(request, schemas.CorrectionBody)
    bots, context = context_of(request).bots, RequestContext.of(request.scope)
    turn = await asyncio.to_thread(bots.sessions.turn, kept, number)
    said = [act.model_dump(exclude_none=True) for act in body.acts]
    options, resolve = context.options(), resolver(request)

    document: dict[str, Any] = {
        "object": "bot.correction",
        "id": None,
        "session": kept.id,
        "turn": number,
        "acts": [{name: value for name, value in act.items() if value and name != "words"} for act in said],
        "was": turn.answer["user_acts"],
        "stale_turns": list(range(number + 1, kept.turn)),
    }
    if body.preview:
        logged = await asyncio.to_thread(_logged, bots.sessions, found)
        document["would_change"] = await bots.preview(found, kept, turn, said, resolve, options, logged)
        return json_response(document, 200)

    by = context.caller.key_id if context.caller else ""
    correction = await bots.correct(found, kept, turn, said, resolve, options, by=by)
    return json_response(document | {"id": correction.id, "acts": [act_document(act) for act in correction.acts]}, 201)


def _logged(store: Any, bot: BotRecord) -> list[KeptTurn]:
    found: list[KeptTurn] = []
    for session in store.dialogs(bot, limit=200):
        found += store.turns(session)
        if len(found) >= _PREVIEWED:
            break
    return found[:_PREVIEWED]


def resolver(request: Request) -> Resolve:
    """How a request looks up the encoder of a bot: as any model that its caller sees."""
    context, request_context = context_of(request), RequestContext.of(request.scope)

    async def resolve(name: str, version: str) -> ModelHandle:
        return await context.look_up(request_context.caller, name, version or None, deadline=request_context.deadline)

    return resolve


async def _session(request: Request, bot: str, session: str, scope: Any = "infer") -> tuple[BotRecord, Session]:
    found = await bot_of(request, bot, scope)
    kept = await asyncio.to_thread(context_of(request).bots.sessions.get, found.owner, session, found)
    return found, kept


def session_document(session: Session) -> dict[str, Any]:
    """As JSON."""
    return {
        "id": session.id,
        "object": "bot.session",
        "bot": session.bot_id,
        "version": session.version,
        "turn": session.turn,
        "closed": session.closed,
        "status": session.status,
        "outcome": session.outcome,
        "confidence": session.confidence,
        "belief": dict(session.standing.belief),
        "created_at": session.created_at,
        "used_at": session.used_at,
    }


def turn_document(session: str, number: int, text: str, answer: Any, *, stale: bool = False) -> dict[str, Any]:
    """As JSON."""
    shown = {name: value for name, value in answer.items() if name != "user_acts_read"}
    named = {"id": f"{session}.{number}", "object": "bot.turn", "session": session, "turn": number, "text": text}
    return {**named, **shown, "stale": stale}


def _kept(turn: KeptTurn) -> dict[str, Any]:
    return turn_document(turn.session_id, turn.number, turn.text, turn.answer, stale=turn.stale)
