"""Stops work for a client that has gone: whatever it waits for in a queue is dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from services.errors import Kind, Problem

T = TypeVar("T")

SOON = 0.005
"""Seconds after which watching begins: work that is done sooner is not worth a task beside it (25 us)."""


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``; cancels it and raises ``client-left`` when the client leaves first.

    The request's body must have been read: what comes from ``receive`` now can only be the end of the connection.
    """
    task = asyncio.current_task()
    assert task is not None
    left = False

    async def watch() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        left = True
        task.cancel()

    watcher: asyncio.Task[None] | None = None

    def begin() -> None:
        nonlocal watcher
        watcher = asyncio.create_task(watch())

    timer = asyncio.get_running_loop().call_later(SOON, begin)
    try:
        return await work
    except asyncio.CancelledError:
        # The server itself also cancels, when it is forced to stop: only our own cancellation ends here.
        if left and task.uncancel() == 0:
            raise Problem(
                Kind.CANCELLED, "client-left", "The client left", "The connection closed before the answer was ready."
            ) from None
        raise
    finally:
        timer.cancel()
        if watcher is not None:
            watcher.cancel()
