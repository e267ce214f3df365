"""Imports of data sets: in threads of their own, one a key at a time; time, a client that leaves or a stop end them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from services.datasets.archive import Watch
from services.datasets.time_limit import TimeLimit
from services.errors import Problem

T = TypeVar("T")

THREADS = 2
"""Imports take minutes: in the common pool they would keep out all other requests."""


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock
    users: int = 0


class Imports:
    """Of one process and its event loop. Each import has ``seconds`` from the moment when it gets its thread."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="import")
        self._running: set[TimeLimit] = set()
        self._turns: dict[str, _Turn] = {}

    async def run(self, owner: str, work: Callable[[Watch], T]) -> T:
        """What ``work`` gives in a thread; it calls its watch often. Raises ``import-timeout`` and what it raises.

        Cancelled, it returns when the work has ended too, so that nothing reads what the caller then removes.
        """
        limit = TimeLimit(self._seconds)

        def begin() -> T:
            limit.begin()
            return work(limit)

        async with self._turn(owner):
            self._running.add(limit)
            running = asyncio.get_running_loop().run_in_executor(self._threads, begin)
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                limit.end()
                with suppress(Problem):
                    await running
                raise
            finally:
                self._running.discard(limit)

    def close(self) -> None:
        """End what runs and what waits."""
        for limit in list(self._running):
            limit.end()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def _turn(self, owner: str) -> AsyncIterator[None]:
        """Alone among the imports of ``owner``: many of one key leave the other thread to the others."""
        turn = self._turns.setdefault(owner, _Turn(asyncio.Lock()))
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[owner]
