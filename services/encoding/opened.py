"""What a task makes of a version of a model before it can use it (a tokenizer, arrays): once, and not in a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from services.runtime.protocol import ModelHandle

T = TypeVar("T")

_GENERATIONS = 2
"""Kept of each name: while one version takes over from another, requests use both."""


class OpenedModels(Generic[T]):
    """One ``T`` for each version that is served, made by ``make`` in a thread when it is first asked for.

    >>> encoders = OpenedModels(TextEncoder)
    >>> encoder = await encoders.get(model)
    """

    def __init__(self, make: Callable[[ModelHandle], T]) -> None:
        self._make = make
        self._made: dict[str, dict[int, T]] = {}
        self._making = asyncio.Lock()

    async def get(self, model: ModelHandle) -> T:
        """Return what was made of ``model``. Raises what making it raises, each time it is tried."""
        made = self._made.get(model.card.name, {}).get(model.generation)
        return made if made is not None else await self._open(model)

    async def _open(self, model: ModelHandle) -> T:
        async with self._making:
            own = self._made.setdefault(model.card.name, {})
            made = own.get(model.generation)
            if made is None:
                made = own[model.generation] = await asyncio.to_thread(self._make, model)
                for oldest in sorted(own)[:-_GENERATIONS]:
                    del own[oldest]
            return made
