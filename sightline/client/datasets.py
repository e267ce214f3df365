"""Data sets of a key: ``client.datasets``."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

import httpx
import orjson

from sightline.client.calls import Call
from sightline.client.connection import pause_after_refusal, unreachable
from sightline.client.errors import SightlineError
from sightline.client.retries import Retries

T = TypeVar("T")

_CHUNK = 1 << 18
_TARS = (".tar", ".tgz", ".gz", ".bz2", ".xz")


@dataclass(frozen=True, slots=True)
class Dataset:
    """An imported data set. ``counts`` by split; ``problems`` say what of the upload was left out, and why."""

    id: str
    name: str
    task: str
    classes: tuple[str, ...]
    counts: Mapping[str, int]
    class_counts: Mapping[str, int]
    problems: tuple[str, ...]
    problem_count: int


class Send(Protocol):
    """How the blocking client sends a call."""

    def __call__(self, call: Call[T]) -> T: ...


class SendAsync(Protocol):
    """How the asynchronous client sends one."""

    async def __call__(self, call: Call[T]) -> T: ...


class Datasets:
    """Labelled image sets on the platform. Every method raises :class:`APIError` or :class:`Unreachable`."""

    def __init__(self, http: httpx.Client, retries: Retries, send: Send) -> None:
        self._http, self._retries, self._send = http, retries, send

    def upload(self, content: Path | str, name: str, *, strict: bool = False) -> Dataset:
        """Import a zip, a tar or a folder as the set ``name``; ``strict`` refuses the whole of it for one flaw."""
        attempt = 0
        with _archive(Path(content)) as file:
            while True:
                attempt += 1
                try:
                    response = self._http.post(
                        _upload_path(name, strict), content=_chunks(file), headers=_headers(file), timeout=None
                    )
                except httpx.TransportError as error:  # it may have arrived: sending it twice would be refused
                    raise unreachable(error) from error
                if response.is_success:
                    return _one(response)
                time.sleep(pause_after_refusal(response, self._retries, attempt))

    def get(self, name: str) -> Dataset:
        """A set by its id or name."""
        return self._send(_get(name))

    def list(self) -> Iterator[Dataset]:
        """Sets, newest first; further pages are fetched as they are reached."""
        after: str | None = None
        while True:
            found, after = self._send(_page(after))
            yield from found
            if after is None:
                return

    def delete(self, name: str) -> None:
        """Remove a set by its id or name. Models that were trained on it stay."""
        self._send(_delete(name))


class AsyncDatasets:
    """The same for :class:`AsyncClient`."""

    def __init__(self, http: httpx.AsyncClient, retries: Retries, send: SendAsync) -> None:
        self._http, self._retries, self._send = http, retries, send

    async def upload(self, content: Path | str, name: str, *, strict: bool = False) -> Dataset:
        """Import a zip, a tar or a folder as the set ``name``; ``strict`` refuses the whole of it for one flaw."""
        attempt = 0
        with _archive(Path(content)) as file:
            while True:
                attempt += 1
                try:
                    response = await self._http.post(
                        _upload_path(name, strict), content=_async_chunks(file), headers=_headers(file), timeout=None
                    )
                except httpx.TransportError as error:
                    raise unreachable(error) from error
                if response.is_success:
                    return _one(response)
                await asyncio.sleep(pause_after_refusal(response, self._retries, attempt))

    async def get(self, name: str) -> Dataset:
        """A set by its id or name."""
        return await self._send(_get(name))

    async def list(self) -> AsyncIterator[Dataset]:
        """Sets, newest first; further pages are fetched as they are reached."""
        after: str | None = None
        while True:
            found, after = await self._send(_page(after))
            for one in found:
                yield one
            if after is None:
                return

    async def delete(self, name: str) -> None:
        """Remove a set by its id or name. Models that were trained on it stay."""
        await self._send(_delete(name))


def _get(name: str) -> Call[Dataset]:
    return Call("GET", f"/v1/datasets/{quote(name, safe='')}", _one)


def _delete(name: str) -> Call[None]:
    return Call("DELETE", f"/v1/datasets/{quote(name, safe='')}", lambda response: None)


def _page(after: str | None) -> Call[tuple[list[Dataset], str | None]]:
    def read(response: httpx.Response) -> tuple[list[Dataset], str | None]:
        body = orjson.loads(response.content)
        return [_dataset(one) for one in body["data"]], body["last_id"] if body["has_more"] else None

    return Call("GET", "/v1/datasets?" + urlencode({"limit": 100} | ({"after": after} if after else {})), read)


def _one(response: httpx.Response) -> Dataset:
    return _dataset(orjson.loads(response.content))


def _dataset(body: Mapping[str, Any]) -> Dataset:
    return Dataset(
        body["id"],
        body["name"],
        body["task"],
        tuple(body["classes"]),
        body["counts"],
        body["class_counts"],
        tuple(_told(flaw) for flaw in body["problems"]),
        body["problem_count"],
    )


def _told(flaw: Mapping[str, Any]) -> str:
    line = "" if flaw["line"] is None else f", line {flaw['line']}"
    return f"{flaw['file']}{line}: {flaw['message']}"


def _upload_path(name: str, strict: bool) -> str:
    return "/v1/datasets?" + urlencode({"name": name, "strict": "true" if strict else "false"})


def _headers(file: Path) -> dict[str, str]:
    kind = "application/x-tar" if file.suffix.lower() in _TARS else "application/zip"
    return {"content-type": kind, "content-length": str(file.stat().st_size)}


@contextmanager
def _archive(content: Path) -> Iterator[Path]:
    """The file itself, or a folder's files as a zip that goes away afterwards."""
    if content.is_file():
        yield content
        return
    if not content.is_dir():
        raise SightlineError(f"{content} is neither a file nor a folder; name a zip, a tar or a folder of pictures")
    with tempfile.TemporaryDirectory(prefix="upload-") as folder:
        packed = Path(folder) / "set.zip"
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED, strict_timestamps=False) as bundle:
            for root, folders, files in os.walk(content):
                folders.sort()
                for name in sorted(files):
                    bundle.write(Path(root) / name, str((Path(root) / name).relative_to(content)))
        yield packed


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


async def _async_chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk
