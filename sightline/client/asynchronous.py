"""The client for asyncio: the methods of the blocking one, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self, TypeVar

import httpx

from sightline.client import benchmarks, calls
from sightline.client.async_jobs import AsyncJobs
from sightline.client.benchmarks import Comparison, Leaderboard, Mode, View
from sightline.client.calls import Call
from sightline.client.connection import http_options, pause_after_loss, pause_after_refusal
from sightline.client.datasets import AsyncDatasets
from sightline.client.images import ImageLike
from sightline.client.results import Classification, Embeddings, Model
from sightline.client.retries import Retries

T = TypeVar("T")


class AsyncClient:
    """Calls the platform at ``url`` from one event loop. Close it, or use it in an ``async with`` block.

    Arguments, results and errors are those of :class:`sightline.Client`.
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
        self._retries = retries or Retries()
        self.datasets = AsyncDatasets(self._http, self._retries, self._send)
        self.jobs = AsyncJobs(self._http, self._retries, self._send)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def classify(
        self,
        images: ImageLike | Sequence[ImageLike],
        labels: Sequence[str] | None = None,
        *,
        label_set: str | None = None,
        templates: Sequence[str] | None = None,
        template_set: str | None = None,
        top_k: int | None = None,
        multi_label: bool | None = None,
        threshold: float | None = None,
        explain: bool | None = None,
        model: str | None = None,
    ) -> Classification:
        """The labels of one or many images, best first. A closed-set model needs no ``labels``."""
        # Files are read and images encoded in a thread: other tasks go on.
        call = await asyncio.to_thread(
            calls.classify,
            images,
            labels,
            label_set=label_set,
            templates=templates,
            template_set=template_set,
            top_k=top_k,
            multi_label=multi_label,
            threshold=threshold,
            explain=explain,
            model=model,
        )
        return await self._send(call)

    async def embed(
        self,
        texts: str | Sequence[str] | None = None,
        *,
        images: ImageLike | Sequence[ImageLike] | None = None,
        dimensions: int | None = None,
        model: str | None = None,
    ) -> Embeddings:
        """The embeddings of texts or of images."""
        call = await asyncio.to_thread(calls.embed, texts, images=images, dimensions=dimensions, model=model)
        return await self._send(call)

    async def models(self) -> list[Model]:
        """Every model that the platform has."""
        return await self._send(calls.models())

    async def model(self, name: str) -> Model:
        """One model."""
        return await self._send(calls.model(name))

    async def leaderboard(
        self, suite: str, *, view: View = "score", mode: Mode = "strict", shots: int | None = None
    ) -> Leaderboard:
        """What your benchmarks have measured on a suite, best first; ``shots`` -1 is all images, 0 zero-shot."""
        return await self._send(benchmarks.leaderboard(suite, view, mode, shots))

    async def compare(self, left: str, right: str) -> Comparison:
        """Two finished benchmarks by their job ids, data set by data set."""
        return await self._send(benchmarks.compare(left, right))

    async def _send(self, call: Call[T]) -> T:
        content = call.content()
        attempt = 0
        while True:
            attempt += 1
            try:
                response = await self._http.request(call.method, call.path, content=content, headers=call.headers)
            except httpx.TransportError as error:
                await asyncio.sleep(pause_after_loss(error, self._retries, attempt))
                continue
            if response.is_success:
                return calls.result(call, response)
            await asyncio.sleep(pause_after_refusal(response, self._retries, attempt))
