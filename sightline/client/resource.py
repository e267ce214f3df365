"""What the files of tasks and resources share: a request sent with its retries, and pages that follow each other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import orjson

from sightline.client.connection import pause_after_loss, pause_after_refusal, unreachable
from sightline.client.errors import APIError
from sightline.client.halves import FileContent, Half, N
from sightline.client.retries import Retries

T = TypeVar("T")

Json = Mapping[str, Any]

_PAGE = 100


class Resource(Half[N]):
    """A part of the platform that the client talks to. Methods raise :class:`APIError` or :class:`Unreachable`."""

    def __init__(self, network: N, retries: Retries) -> None:
        super().__init__(network)
        self._retries = retries

    async def _ask(
        self,
        method: str,
        path: str,
        read: Callable[[httpx.Response], T],
        *,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> T:
        """Send a request and ``read`` its answer.

        Fields of ``body`` that are ``None`` stay away: those are for the platform to choose.
        """
        content = None
        if body is not None:
            content = orjson.dumps({name: value for name, value in body.items() if value is not None})

        return read_answer(await self._send(method, path, content=content, headers=headers), read)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        content: bytes | Path | None = None,
        headers: Mapping[str, str] | None = None,
        resend: bool = True,
        **options: Any,
    ) -> httpx.Response:
        """A successful answer, with its body. ``resend`` says that a request may be sent twice when it broke."""
        attempt = 0
        while True:
            attempt += 1
            try:
                async with self._open(method, path, content=content, headers=headers, **options) as response:
                    await response.aread()
            except httpx.TransportError as error:
                if not resend:
                    raise unreachable(error) from error
                await self._network.sleep(pause_after_loss(error, self._retries, attempt))
                continue

            if response.is_success:
                return response

            await self._network.sleep(pause_after_refusal(response, self._retries, attempt))

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        *,
        content: bytes | Path | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> AsyncIterator[httpx.Response]:
        """The answer to one attempt, its body still to be read. ``options`` are those of ``httpx``'s requests."""
        body = None if isinstance(content, Path) else content
        request = self._network.http.build_request(method, path, content=body, headers=headers, **options)
        if isinstance(content, Path):
            request.stream = FileContent(content)

        response = await self._network.send(request)
        try:
            yield response
        finally:
            await response.aclose()

    async def _pages(
        self, path: str, entry: Callable[[Json], T], asked: Sequence[tuple[str, str]] = ()
    ) -> AsyncIterator[T]:
        """Every entry of a list; further pages are fetched as they are reached."""
        after: list[tuple[str, str]] = []
        while True:
            query = httpx.QueryParams([*asked, ("limit", str(_PAGE)), *after])
            entries, last = await self._ask("GET", f"{path}?{query}", lambda response: _page(response, entry))
            for found in entries:
                yield found
            if last is None:
                return
            after = [("after", last)]


def read_answer(response: httpx.Response, read: Callable[[httpx.Response], T]) -> T:
    """Return what a successful answer says; raises :class:`APIError` when it is not the platform's."""
    try:
        return read(response)
    except (ValueError, KeyError, TypeError) as error:
        detail = f"{response.url} answered something else than this client expects."
        raise APIError(response.status_code, "answer-unexpected", "The answer makes no sense", detail) from error


def json_of(response: httpx.Response) -> Any:
    """The body of an answer."""
    return orjson.loads(response.content)


def nothing(response: httpx.Response) -> None:
    """Read an answer that says no more than that it worked."""


def segment(name: str) -> str:
    """``name`` as one segment of a path."""
    return quote(name, safe="")


def timings(response: httpx.Response) -> dict[str, float]:
    """``Server-Timing: decode;dur=1.5, queue;dur=0`` as milliseconds by name."""
    found = {}
    for part in response.headers.get("server-timing", "").split(","):
        name, _, duration = part.strip().partition(";dur=")
        if duration:
            found[name] = float(duration)
    return found


def _page(response: httpx.Response, entry: Callable[[Json], T]) -> tuple[list[T], str | None]:
    body = json_of(response)
    return [entry(one) for one in body["data"]], body["last_id"] if body["has_more"] else None
