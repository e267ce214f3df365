"""Answers HEAD wherever GET is answered, as HTTP has it (RFC 9110, section 9.3.2); FastAPI's routes refuse it."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

ASKED = "sightline.head"
"""Set in the scope of a HEAD that is routed as GET: who would read much content for the answer need not."""


class HeadAsGet:
    """Routes HEAD as GET and keeps the body back. Streams of events are left out: they have no end to wait for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD" or scope["path"].endswith("/events"):
            await self._app(scope, receive, send)
            return
        ended = False

        async def send_head(message: Message) -> None:
            nonlocal ended
            scope["method"] = "HEAD"  # from here on the server is to know that no body follows
            if message["type"] == "http.response.start":
                await send(message)
            elif not ended:
                ended = True
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        scope["method"], scope[ASKED] = "GET", True
        await self._app(scope, receive, send_head)
