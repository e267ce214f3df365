"""Bounds what a client may send: the size before it is read, the bytes as they come, the time they take.

A refusal is answered at once and the rest of the body is thrown away for a moment before the connection closes: a
socket closed over unread data is reset, and the client would never see why it was refused.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.problems import problem_response
from gateway.request.request_context import RequestContext
from services.errors import Kind, Problem

_SMALL = 64 * 1024  # an unread rest this small is cheaper to read than a new connection is to open
_LINGER_SECONDS = 2.0
_UNPACKS = "/v2/models/"  # gateway.oip reads what the protocol's clients compress, within the same limit
_LINGER_BYTES = 256 * 1024 * 1024


@dataclass(slots=True)
class Held:
    """Bytes of request bodies that the process holds, and how many it may."""

    limit: int
    now: int = 0

    def take(self, size: int) -> None:
        if self.now + size > self.limit:
            raise Problem(
                Kind.UNAVAILABLE,
                "bodies-full",
                "The server holds too much",
                "The bodies of the requests in flight fill the memory set aside for them.",
                remedy="Try again in a moment.",
                retry_after=1,
            )
        self.now += size


class BodyGuard:
    """ASGI middleware: ``limit`` bytes and ``timeout`` seconds a body, ``held`` bytes in all.

    Bodies of paths under ``streams`` are stored as they arrive: they may be longer, and the time-out counts from
    one chunk to the next.
    """

    def __init__(
        self, app: ASGIApp, *, limit: int, timeout: float, held: int, streams: tuple[tuple[str, int], ...] = ()
    ) -> None:
        self._app = app
        self._limit = limit
        self._timeout = timeout
        self._held = Held(held)
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        head = RequestContext.of(scope).head
        length = head.get(b"content-length")
        if length is None and b"transfer-encoding" not in head:
            await self._app(scope, receive, send)
            return

        streamed = next((limit for prefix, limit in self._streams if scope["path"].startswith(prefix)), None)
        body = _Body(
            receive,
            send,
            limit=self._limit if streamed is None else streamed,
            timeout=self._timeout,
            held=None if streamed is not None else self._held,
            expected=int(length) if length is not None and length.isdigit() else None,
        )
        try:
            packed = head.get(b"content-encoding", b"identity")
            problem = body.refusal(b"identity" if scope["path"].startswith(_UNPACKS) else packed)
            if problem is None:
                await self._app(scope, body.receive, body.send)
            else:
                await problem_response(problem, scope)(scope, body.receive, body.send)
        finally:
            body.release()


class _Body:
    """One request's body on its way in, and the answer on its way out."""

    def __init__(
        self, receive: Receive, send: Send, *, limit: int, timeout: float, held: Held | None, expected: int | None
    ) -> None:
        self._receive = receive
        self._send = send
        self._limit = limit
        self._timeout = timeout
        self._held = held
        self._expected = expected
        self._deadline = time.monotonic() + timeout
        self._read = 0
        self._taken = 0
        self._done = expected == 0
        self._closing = False

    def refusal(self, encoding: bytes) -> Problem | None:
        """Return what is wrong with the body before any of it is read."""
        if self._expected is not None and self._expected > self._limit:
            return _too_large(f"The body has {self._expected:,} bytes", self._limit)
        if encoding.strip().lower() not in (b"identity", b""):
            return Problem(
                Kind.UNSUPPORTED_TYPE,
                "encoding-unsupported",
                "Compressed bodies are not read",
                f"Content-Encoding is {encoding.decode('latin-1')!r}.",
                remedy="Send the body as it is; images are compressed already.",
            )
        return None

    async def receive(self) -> Message:
        if self._done:
            return await self._receive()  # whoever asks now waits for the client to leave

        remaining = self._timeout if self._held is None else self._deadline - time.monotonic()
        try:
            async with asyncio.timeout(remaining):
                message = await self._receive()
        except TimeoutError:
            raise Problem(
                Kind.SLOW,
                "body-timeout",
                "The body did not arrive in time",
                f"{self._read:,} bytes came within {self._timeout:g} seconds.",
                remedy="Send the whole body faster, or smaller images.",
            ) from None

        if message["type"] != "http.request":
            self._done = True
            return message

        size = len(message.get("body", b""))
        self._read += size
        if self._read > self._limit:
            raise _too_large(f"The body has {self._read:,} bytes or more", self._limit)

        if self._held is not None:
            self._held.take(size)
            self._taken += size

        self._done = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and not self._done:
            rest = _SMALL + 1 if self._expected is None else self._expected - self._read
            if rest > _SMALL:
                self._closing = True
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        if not self._closing or message["type"] != "http.response.body" or message.get("more_body", False):
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        await self._linger()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _linger(self) -> None:
        thrown_away = 0
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while thrown_away < _LINGER_BYTES:
                    message = await self._receive()
                    thrown_away += len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        return
        except TimeoutError:
            return

    def release(self) -> None:
        if self._held is not None:
            self._held.now -= self._taken


def _too_large(what: str, limit: int) -> Problem:
    return Problem(
        Kind.TOO_LARGE,
        "body-too-large",
        "The body is too large",
        f"{what}; the limit is {limit:,}.",
        remedy="Send fewer or smaller images in one request.",
    )
