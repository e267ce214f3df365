"""Lets work in: as many inferences as may be in flight, and one piece of heavy work a turn of the event loop.

Decoding a picture takes about a millisecond and is cheapest on the event loop itself. But a loop that runs a hundred
of them in a row reads no socket meanwhile: refusals and health checks would wait behind all. So each waits for its
turn, and between two turns the loop looks at its sockets.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType

from services.errors import Kind, Problem


class Admission:
    """At most ``limit`` inferences in flight; ``async with admission: await admission.turn()``."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inflight = 0
        self._running = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __enter__(self) -> Admission:
        if self._inflight >= self._limit:
            raise Problem(
                Kind.TOO_MANY,
                "overloaded",
                "The server is busy",
                f"{self._inflight} inferences are in flight, as many as are let in.",
                remedy="Try again in a moment, with a growing pause.",
                retry_after=1,
            )
        self._inflight += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inflight -= 1

    async def turn(self) -> None:
        """Return when it is this caller's turn to work on the event loop; first come, first served."""
        loop = asyncio.get_running_loop()
        if not self._running:
            self._running = True
            loop.call_soon(self._next)
            return
        mine = loop.create_future()
        self._waiting.append(mine)
        await mine

    def _next(self) -> None:
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():  # its client may have left
                first.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._running = False
