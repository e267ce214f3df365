"""Answers that come in parts: one envelope of server-sent events for tokens, previews and what happens to jobs.

A producer is an async generator of :class:`Event`. It is read in one task, one event ahead of the client: a client that
is slow slows it down, one that leaves ends it. Where nothing comes for a while a comment keeps proxies awake. What the
producer raises before its first event is an ordinary refusal, with its status; after that, an event ``error`` with the
same document as its data, and the stream ends without its end marker.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.problems import internal_problem, problem_body
from gateway.request.request_context import RequestContext
from services.errors import Kind, Problem
from services.runtime.problems import deadline_exceeded

AWAKE_SECONDS = 15.0
"""Silence after which a comment is sent: proxies close what is silent for a minute."""

MOST_PER_KEY = 256
"""Streams of one key that a process keeps open: each is a connection and maybe a watcher of the database."""

DONE = b"data: [DONE]\n\n"
"""The end of a task's stream, as OpenAI's clients know it: without it, the answer is not whole."""

EVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "One server-sent event",
    "properties": {name: {"type": "string"} for name in ("id", "event", "data")},
}

_AWAKE = b": alive\n\n"


@dataclass(frozen=True, slots=True)
class Event:
    """One event. ``data`` becomes JSON (NumPy arrays too); ``name`` and ``number`` are its lines ``event`` and ``id``.

    >>> Event({"text": "a"}, name="token", number=3).encoded()
    b'id: 3\\nevent: token\\ndata: {"text":"a"}\\n\\n'
    """

    data: object
    name: str = ""
    number: int | None = None

    def encoded(self) -> bytes:
        """The event as it is sent."""
        number = b"" if self.number is None else b"id: %d\n" % self.number
        name = b"event: %b\n" % self.name.encode() if self.name else b""
        return b"%b%bdata: %b\n\n" % (number, name, orjson.dumps(self.data, option=orjson.OPT_SERIALIZE_NUMPY))


Events = AsyncGenerator[Event | bytes, None]
"""What a producer yields; bytes are events that it has encoded itself, many at once."""


class OpenStreams:
    """How many streams each key has open in this process, ``most`` at the same time."""

    def __init__(self, most: int = MOST_PER_KEY) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    @contextlib.contextmanager
    def one_of(self, key_id: str) -> Iterator[None]:
        """One stream of a key, for as long as the block lasts; raises ``streams-too-many``."""
        if self._open[key_id] >= self._most:
            raise Problem(
                Kind.TOO_MANY,
                "streams-too-many",
                "Too many streams are open",
                f"The key has {self._open[key_id]} streams open, as many as it may.",
                remedy="Close some, or ask without `stream`.",
                retry_after=1,
            )

        self._open[key_id] += 1
        try:
            yield
        finally:
            self._open[key_id] -= 1
            if not self._open[key_id]:
                del self._open[key_id]


class EventStream(StreamingResponse):
    """The answer to the request of ``scope`` with the events of a producer, then ``end``.

    ``held`` is closed when the producer has ended, however that was: what it needs for as long as it runs. That is
    until ``deadline`` at most, on the clock of ``time.perf_counter()``, however fast the client reads.
    """

    def __init__(
        self,
        events: Events,
        scope: Scope,
        *,
        end: bytes = b"",
        held: contextlib.ExitStack | None = None,
        deadline: float | None = None,
    ) -> None:
        super().__init__((), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._events = events
        self._scope = scope
        self._end = end
        self._held = held or contextlib.ExitStack()
        self._deadline = deadline
        self._ready: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._begun = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    async def begin(self) -> EventStream:
        """Wait for the first event: raises what the producer raises before it."""
        reading = self._reading = asyncio.create_task(self._read())
        try:
            begun = asyncio.create_task(self._begun.wait())
            await asyncio.wait({reading, begun}, return_when=asyncio.FIRST_COMPLETED)
            begun.cancel()
            if not self._begun.is_set():
                await reading
        except BaseException:
            await self._close()
            raise
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._reading is None:
            self._begun.set()  # nothing refuses from here on: what fails is told as an event
            self._reading = asyncio.create_task(self._read())
        leaving = asyncio.create_task(_left(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while (part := await self._next(leaving)) is not None:
                await send({"type": "http.response.body", "body": part, "more_body": True})
            if not leaving.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            leaving.cancel()
            await self._close()

    async def _next(self, leaving: asyncio.Task[None]) -> bytes | None:
        """Return what to send next; ``None`` when all was sent or the client has left."""
        if leaving.done():
            return None
        if not self._ready.empty():
            return self._ready.get_nowait()
        getting = asyncio.create_task(self._ready.get())
        try:
            done, _ = await asyncio.wait({getting, leaving}, timeout=AWAKE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if getting in done:
                return getting.result()
            return None if done else _AWAKE
        finally:
            getting.cancel()

    async def _read(self) -> None:
        """Read the producer to its end; what it yields waits in ``_ready``, and ``None`` after all."""
        try:
            with self._held:
                await self._produce()
            self._begun.set()
            if self._end:
                await self._ready.put(self._end)
        except Exception as error:
            if not self._begun.is_set():
                raise
            await self._ready.put(self._failed(error).encoded())

        await self._ready.put(None)

    async def _produce(self) -> None:
        """Hand on what the producer yields. Raises what it raises, and ``deadline-exceeded``."""
        seconds = None if self._deadline is None else self._deadline - time.perf_counter()
        limit = asyncio.timeout(seconds)
        try:
            async with limit, contextlib.aclosing(self._events) as events:
                async for event in events:
                    self._begun.set()
                    await self._ready.put(event if isinstance(event, bytes) else event.encoded())
        except TimeoutError:
            if not limit.expired():
                raise
            raise deadline_exceeded("The answer still had parts to come.") from None

    def _failed(self, error: Exception) -> Event:
        problem = error if isinstance(error, Problem) else internal_problem(error, self._scope)
        problem.__traceback__ = problem.__context__ = problem.__cause__ = None
        request_context = RequestContext.of(self._scope)
        request_context.problem = problem
        return Event(problem_body(problem, request_context.request_id), name="error")

    async def _close(self) -> None:
        """End the producer, wherever it is, and let go of what it held."""
        reading, self._reading = self._reading, None
        with self._held:
            if reading is not None:
                reading.cancel()
                await asyncio.wait({reading})
                if not reading.cancelled():
                    reading.exception()  # was told, or nobody is left to be told


async def _left(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
