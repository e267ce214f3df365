"""Lets work in: as much as may be in flight, one piece of heavy work a turn of the event loop, shares of a budget.

An ordinary request counts as one unit, a large one as more once it is known how large it is.

Decoding an image takes about a millisecond and is cheapest on the event loop itself. But a loop that runs a hundred
of them in a row reads no socket meanwhile: refusals and health checks would wait behind all. So each waits for its
turn, and between two turns the loop looks at its sockets.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType

from services.errors import Kind, Problem


class Place:
    """What one request takes of an :class:`Admission`, for as long as its block lasts: one unit, until it grows."""

    __slots__ = ("_admission", "_units")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._units = 0

    def __enter__(self) -> Place:
        admission = self._admission
        if admission.units >= admission.limit:
            raise _overloaded(f"{admission.units} inferences are in flight, as many as are let in.")
        self._units = 1
        admission.units += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._admission.units -= self._units

    def moved(self) -> Place:
        """A place with what this one holds, which holds nothing any more: for work that goes on after this block.

        It is entered already; its ``__exit__`` gives it back.
        """
        place = Place(self._admission)
        place._units, self._units = self._units, 0
        return place

    def grow(self, units: int) -> None:
        """Count as ``units`` from now on; raises ``overloaded`` when others in flight leave no room for them.

        Alone, a request is let in however large it is.
        """
        if units <= self._units:
            return

        admission = self._admission
        others = admission.units - self._units
        if others and others + units > admission.limit:
            raise _overloaded(
                f"The request counts as {units} ordinary ones, {others} are in flight, {admission.limit} are let in."
            )

        admission.units += units - self._units
        self._units = units


class Admission:
    """At most ``limit`` units in flight: ``with admission.admit() as place: await admission.turn()``."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.units = 0
        self._running = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    def admit(self) -> Place:
        """A place for one request, taken when its block begins; that raises ``overloaded`` when all are taken."""
        return Place(self)

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


def _overloaded(detail: str) -> Problem:
    return Problem(
        Kind.TOO_MANY,
        "overloaded",
        "The server is busy",
        detail,
        remedy="Try again in a moment, with a growing pause.",
        retry_after=1,
    )


class Budget:
    """``total`` units; :meth:`take` waits until its share is free. Nobody may ask for more than there is."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, units: int) -> None:
        """Wait for ``units``, first come, first served: a large share is not starved by small ones behind it."""
        if units > self.total:
            raise ValueError(f"{units} of {self.total}")
        if not self._waiting and units <= self._free:
            self._free -= units
            return

        mine = asyncio.get_running_loop().create_future()
        self._waiting.append((units, mine))
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self.give(units)  # it was handed out in the moment of leaving
            else:
                self._advance()
            raise

    def give(self, units: int) -> None:
        """Give back what was taken."""
        self._free += units
        self._advance()

    def _advance(self) -> None:
        while self._waiting:
            units, first = self._waiting[0]
            if first.done():  # cancelled
                self._waiting.popleft()
            elif units <= self._free:
                self._waiting.popleft()
                self._free -= units
                first.set_result(None)
            else:
                return
