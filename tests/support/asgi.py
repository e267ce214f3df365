"""Calls an ASGI application directly: every event in and out is visible, and time-outs can be provoked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
from fastapi import FastAPI

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


@dataclass(slots=True)
class Answered:
    """What an application sent, event by event."""

    events: list[Message] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.events[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.events[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(event.get("body", b"") for event in self.events[1:])

    def json(self) -> Any:
        return orjson.loads(self.body)


async def call(
    app: App,
    method: str = "POST",
    path: str = "/v1/x",
    *,
    headers: dict[str, str] | None = None,
    chunks: Iterable[bytes | float] = (),
    leave: bool = False,
    leave_after_body: bool = False,
    until: asyncio.Event | None = None,
) -> Answered:
    """One request. ``chunks`` are the body, a number among them a pause in seconds.

    With ``leave`` the client goes after them and before the end of its body, with ``leave_after_body`` at its end,
    with ``until`` when that is set.
    """
    pieces = list(chunks)
    answered = Answered()
    idle = asyncio.Event()

    async def receive() -> Message:
        while pieces:
            piece = pieces.pop(0)
            if isinstance(piece, bytes):
                return {"type": "http.request", "body": piece, "more_body": bool(pieces) or leave}
            await asyncio.sleep(piece)
        if not leave and not leave_after_body:
            await (until or idle).wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        answered.events.append(message)

    given = {"host": "localhost", **(headers or {})}
    path, _, query = path.partition("?")
    scope: Message = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "http",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in given.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    await app(scope, receive, send)
    return answered


@asynccontextmanager
async def client(app: FastAPI, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A started application and an HTTP client on it."""
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://localhost", **options
        ) as http,
    ):
        yield http
