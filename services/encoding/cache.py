"""Arrays kept by key: least recently used ones go first, and what is asked for twice at once is computed once."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.errors import Kind, Problem

Array = NDArray[np.float32]

_OVERHEAD = 512
"""Bytes that an entry costs besides its numbers."""


@dataclass(slots=True)
class _Flight:
    """A computation under way and how many wait for it."""

    key: Hashable
    task: asyncio.Task[Array]
    waiting: int = 0


class ArrayCache:
    """At most ``max_bytes`` of float32 arrays; 0 keeps none. Serves one event loop.

    Arrays come back read-only and shared. ``hits`` counts what was kept, ``joined`` what another caller was already
    computing, ``misses`` what had to be computed.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.hits = self.joined = self.misses = 0
        self._kept: OrderedDict[Hashable, Array] = OrderedDict()
        self._flights: dict[Hashable, _Flight] = {}

    def __len__(self) -> int:
        return len(self._kept)

    async def get(
        self, key: Hashable, compute: Callable[[], Awaitable[Array]], *, deadline: float | None = None
    ) -> Array:
        """The array of ``key``, by ``compute`` if it is neither kept nor under way.

        ``deadline`` is on the clock of ``time.perf_counter()``. The computation goes on while anybody waits for it,
        whoever began it. Raises what ``compute`` raises, and ``deadline-exceeded``.
        """
        while True:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                self.hits += 1
                return kept

            flight = self._flights.get(key)
            began = flight is None
            if flight is None:
                self.misses += 1
                flight = self._begin(key, compute)
            else:
                self.joined += 1

            try:
                return await self._wait(flight, deadline)
            except Problem as problem:
                # The deadline of whoever began it is no answer to others: they try themselves.
                if began or problem.kind is not Kind.DEADLINE or _passed(deadline):
                    raise

    def _begin(self, key: Hashable, compute: Callable[[], Awaitable[Array]]) -> _Flight:
        async def run() -> Array:
            array = await compute()
            array.setflags(write=False)
            self._keep(key, array)
            return array

        flight = _Flight(key, asyncio.create_task(run()))
        self._flights[key] = flight
        flight.task.add_done_callback(lambda _: self._land(flight))
        return flight

    def _land(self, flight: _Flight) -> None:
        if flight.task.done() and not flight.task.cancelled():
            flight.task.exception()  # looked at, in case that nobody waits any more
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    async def _wait(self, flight: _Flight, deadline: float | None) -> Array:
        flight.waiting += 1
        try:
            seconds = None if deadline is None else max(0.0, deadline - time.perf_counter())
            await asyncio.wait((flight.task,), timeout=seconds)
            if flight.task.done():
                return flight.task.result()

            raise Problem(
                Kind.DEADLINE, "deadline-exceeded", "Deadline exceeded", "The texts were not encoded in time."
            )
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                flight.task.cancel()
                self._land(flight)  # now, so that nobody joins what is being cancelled

    def _keep(self, key: Hashable, array: Array) -> None:
        cost = _cost(array)
        if cost > self.max_bytes:
            return
        if key in self._kept:  # a computation that was given up and finished all the same
            self.bytes -= _cost(self._kept.pop(key))
        self._kept[key] = array
        self.bytes += cost
        while self.bytes > self.max_bytes:
            _, dropped = self._kept.popitem(last=False)
            self.bytes -= _cost(dropped)


def _cost(array: NDArray[Any]) -> int:
    return array.nbytes + _OVERHEAD


def _passed(deadline: float | None) -> bool:
    return deadline is not None and time.perf_counter() >= deadline
