"""A bounded amount of something that requests share, handed out in the order of asking."""

from __future__ import annotations

import asyncio
from collections import deque


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
