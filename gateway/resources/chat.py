"""``/v1/chat/completions``: a bot behind the interface that chat programs speak (OpenAI's)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway import openapi
from gateway.context import context_of
from gateway.middleware.keys import allow
from gateway.request.request_context import RequestContext
from gateway.resources.bot_sessions import resolver
from gateway.resources.bots import bot_of, json_response
from gateway.resources.job_orders import read_as
from gateway.resources.schemas.bots import ChatBody, ChatCompletion, ChatMessage
from gateway.stream import DONE, Event, EventStream
from services.dialog.bot import Standing
from services.dialog.store import BotRecord
from services.errors import Kind, Problem
from services.storage.ids import new_id

router = APIRouter(prefix="/v1/chat/completions", tags=["Task bots"])

_MODEL = "bot:"


@router.post(
    "",
    summary="Chat with a bot",
    response_model=ChatCompletion,
    responses=openapi.refusals(*openapi.ASKED, *openapi.WITH_BODY, 404, 409),
    openapi_extra=openapi.body(ChatBody, {}),
)
async def complete(request: Request) -> Response:
    """Answer the last message of a user.

    Without ``metadata.session_id`` nothing is kept: what was said before is read again from the messages, so that the
    same messages have the same answer. With it, that session goes on. ``sightline`` in the answer is the whole turn.
    """
    allow(request, "infer")
    body = await read_as(request, ChatBody)
    bot = await bot_of(request, _name_of(body.model), "infer")
    said = _said(body.messages)
    session_id = (body.metadata or {}).get("session_id")
    answer = (
        await _in_session(request, bot, session_id, said[-1])
        if session_id
        else await _from_messages(request, bot, said)
    )

    made = f"chatcmpl-{new_id('chat')[-20:]}"
    message, reason = _message(answer, body)
    words = sum(len(text.split()) for text in said)
    usage = {"prompt_tokens": words, "completion_tokens": len(answer["response"].split())}
    usage["total_tokens"] = sum(usage.values())
    if body.stream:
        with_usage = usage if body.stream_options is not None and body.stream_options.include_usage else None
        stream = EventStream(_chunks(made, body.model, message, reason, answer, with_usage), request.scope, end=DONE)
        return await stream.begin()
    return json_response(
        {
            "id": made,
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body.model,
            "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
            "usage": usage,
            "sightline": answer,
        }
    )


async def _in_session(request: Request, bot: BotRecord, session_id: str, text: str) -> dict[str, Any]:
    bots, context = context_of(request).bots, RequestContext.of(request.scope)
    session = await asyncio.to_thread(bots.sessions.get, bot.owner, session_id, bot)
    answered = await bots.turn(bot, session, text, resolver(request), context.options())
    return _shown(answered.document) | {"session": session.id, "turn": answered.number}


async def _from_messages(request: Request, bot: BotRecord, said: Sequence[str]) -> dict[str, Any]:
    """Every user's message is a turn: the belief follows from them, and the last one is answered."""
    bots, context = context_of(request).bots, RequestContext.of(request.scope)
    record = await asyncio.to_thread(bots.serving, bot)
    standing: Standing | None = None
    document: dict[str, Any] = {}
    for text in said:
        standing = standing or await bots.beginning(bot, record)
        turn, document = await bots.answer(bot, record, standing, text, resolver(request), context.options())
        standing = turn.standing
    return _shown(document) | {"turn": len(said) - 1}


def _shown(document: Any) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "user_acts_read"}


def _name_of(model: str) -> str:
    if not model.startswith(_MODEL):
        raise Problem(
            Kind.NOT_FOUND,
            "model-not-found",
            "Model does not exist",
            f"{model[:80]!r} is no bot, and only bots chat.",
            pointer="/model",
            remedy="Name one: bot:NAME. GET /v1/bots lists yours.",
        )
    return model.removeprefix(_MODEL)


def _said(messages: Sequence[ChatMessage]) -> list[str]:
    """What the user said, message by message; parts that are no text are refused."""
    said = []
    for index, message in enumerate(messages):
        if message.role != "user":
            continue
        content = message.content
        if isinstance(content, list):
            if any(part.get("type") != "text" or not isinstance(part.get("text"), str) for part in content):
                raise _no_text(index, "It has parts that are no text.")
            content = " ".join(str(part["text"]) for part in content)
        if not content or not content.strip():
            raise _no_text(index, "It says nothing.")
        said.append(content)
    if not said or messages[-1].role not in ("user", "tool"):
        raise _no_text(len(messages) - 1, "The last message is not a user's.")
    return said


def _no_text(index: int, detail: str) -> Problem:
    return Problem(
        Kind.INVALID,
        "message-unusable",
        "A message cannot be answered",
        detail,
        pointer=f"/messages/{index}",
        remedy='End with {"role": "user", "content": "..."}.',
    )


def _message(answer: dict[str, Any], body: ChatBody) -> tuple[dict[str, Any], str]:
    """The assistant's message: a tool call where the bot did an action that the caller offered to carry out."""
    action = answer.get("action")
    offered = {tool.get("function", {}).get("name") for tool in body.tools or () if isinstance(tool, dict)}
    message: dict[str, Any] = {"role": "assistant", "content": answer["response"], "refusal": None}
    if not action or action["name"] not in offered or body.tool_choice == "none":
        return message, "stop"
    arguments = orjson.dumps(action["arguments"]).decode()
    call = {
        "id": f"call_{action['reference']}",
        "type": "function",
        "function": {"name": action["name"], "arguments": arguments},
    }
    return message | {"tool_calls": [call]}, "tool_calls"


async def _chunks(
    made: str, model: str, message: dict[str, Any], reason: str, answer: dict[str, Any], usage: dict[str, int] | None
) -> AsyncGenerator[Event, None]:
    """The answer word by word: it is there as a whole, since every value in it was looked up first."""
    head = {"id": made, "object": "chat.completion.chunk", "created": int(time.time()), "model": model}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> Event:
        return Event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    yield chunk({"role": "assistant", "content": ""})
    words = message["content"].split(" ")
    for index, word in enumerate(words):
        yield chunk({"content": word if index == 0 else f" {word}"})
    if "tool_calls" in message:
        yield chunk({"tool_calls": [{"index": 0, **call} for call in message["tool_calls"]]})
    yield Event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}], "sightline": answer})
    if usage is not None:
        yield Event({**head, "choices": [], "usage": usage})
