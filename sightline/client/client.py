"""The two clients: where they connect to, and how they are closed."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import httpx

from sightline.client.connection import http_options
from sightline.client.halves import AsyncNetwork, BlockingNetwork
from sightline.client.retries import Retries
from sightline.client.tasks import Tasks


class Client(Tasks[BlockingNetwork], network=BlockingNetwork):
    """Calls the platform at ``url``; safe to use from several threads. Close it, or use it in a ``with`` block.

    ``url`` and ``api_key`` come from ``SIGHTLINE_URL`` and ``SIGHTLINE_API_KEY`` when absent; ``timeout`` in seconds
    counts for one attempt. Every method raises :class:`APIError` or :class:`Unreachable`.

    >>> with Client() as client:
    ...     answer = client.classify("cat.jpg", ["a cat", "a dog"])
    >>> answer[0].best.label
    'a cat'
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: Retries | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(**http_options(url, api_key, timeout), transport=transport)
        super().__init__(BlockingNetwork(self._http), retries or Retries())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()


class AsyncClient(Tasks[AsyncNetwork], network=AsyncNetwork):
    """Calls the platform at ``url`` from one event loop. Close it, or use it in an ``async with`` block.

    Arguments, results and errors are those of :class:`sightline.Client`.

    >>> import asyncio
    >>> async def label(path: str) -> str:
    ...     async with AsyncClient() as client:
    ...         answer = await client.classify(path, ["a cat", "a dog"])
    ...         return answer[0].best.label
    >>> asyncio.run(label("cat.jpg"))
    'a cat'
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: Retries | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(**http_options(url, api_key, timeout), transport=transport)
        super().__init__(AsyncNetwork(self._http), retries or Retries())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()
