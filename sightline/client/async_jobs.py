"""Jobs by the client for asyncio: ``client.jobs``, the methods of the blocking one, awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import httpx

from sightline.client import benchmarks, job_calls
from sightline.client.calls import Call
from sightline.client.connection import pause_after_loss, pause_after_refusal
from sightline.client.errors import APIError, JobFailed, JobTimeout
from sightline.client.job_calls import STREAM_SECONDS, EventReader
from sightline.client.job_results import Artifact, Job, JobEvent, Progress, State
from sightline.client.retries import Retries

T = TypeVar("T")

_CHUNK = 1 << 18


class Send(Protocol):
    """How the client sends a call: with its retries."""

    async def __call__(self, call: Call[T]) -> T: ...


class AsyncJobs:
    """Long work on the platform. Every method raises :class:`APIError` or :class:`Unreachable`."""

    def __init__(self, http: httpx.AsyncClient, retries: Retries, send: Send) -> None:
        self._http = http
        self._retries = retries
        self._send = send

    async def submit(
        self,
        kind: str,
        parameters: Mapping[str, object],
        *,
        priority: int = 0,
        webhook: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Submit a job; ``priority`` 0 to 9, the larger first; ``webhook`` has ``url`` and ``secret``."""
        return await self._send(
            job_calls.submit(kind, parameters, priority=priority, webhook=webhook, idempotency_key=idempotency_key)
        )

    async def get(self, job_id: str) -> Job:
        return await self._send(job_calls.get(job_id))

    async def list(self, *, states: Sequence[State] = (), kinds: Sequence[str] = ()) -> AsyncIterator[Job]:
        """Jobs, newest first; further pages are fetched as they are reached."""
        after: str | None = None
        while True:
            page = await self._send(job_calls.page(states, kinds, after))
            for job in page.jobs:
                yield job
            after = page.next
            if after is None:
                return

    async def cancel(self, job_id: str) -> Job:
        """End a waiting job now; ask a running one to stop at its next step."""
        return await self._send(job_calls.cancel(job_id))

    async def retry(self, job_id: str) -> Job:
        """Queue a failed or cancelled job again, from its last checkpoint."""
        return await self._send(job_calls.retry(job_id))

    async def promote(
        self,
        job_id: str,
        name: str,
        *,
        dataset: str | None = None,
        model: str | None = None,
        protocol: str | None = None,
    ) -> Job:
        """Make the best adapted result of a benchmark the live model ``name``: the job that does it."""
        return await self._send(benchmarks.promote(job_id, name, dataset, model, protocol))

    async def delete(self, job_id: str) -> None:
        """Remove a job that has ended, and what it made."""
        await self._send(job_calls.delete(job_id))

    def events(self, job_id: str, after: int = 0) -> AsyncIterator[JobEvent]:
        """What happens to the job after event ``after``, as it happens, until it has ended.

        A stream that breaks is taken up again where it stopped.
        """
        return self._follow(job_id, after, None)

    async def history(self, job_id: str) -> AsyncIterator[JobEvent]:
        """What has happened to the job so far."""
        after, more = 0, True
        while more:
            page, more = await self._send(job_calls.history(job_id, after))
            for event in page:
                after = event.id
                yield event

    async def wait(
        self,
        job_id: str,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 (as the blocking client has it)
    ) -> Job:
        """The job once it has succeeded.

        ``on_progress`` is called with every progress. Raises :class:`JobFailed` when it failed or was cancelled,
        :class:`JobTimeout` after ``timeout`` seconds; the job runs on then.
        """
        async for event in self._follow(job_id, 0, timeout):
            if event.event == "progress" and on_progress is not None:
                on_progress(job_calls.progress(event))
        job = await self.get(job_id)
        if job.state != "succeeded":
            raise JobFailed(job)
        return job

    async def _follow(self, job_id: str, after: int, seconds: float | None) -> AsyncIterator[JobEvent]:
        reader, attempt = EventReader(job_id, after), 0
        end = time.monotonic() + (float("inf") if seconds is None else seconds)
        while True:
            attempt += 1
            left = end - time.monotonic()
            if left <= 0:
                raise JobTimeout(job_id, seconds or 0.0)
            try:
                async with self._http.stream(
                    "GET",
                    job_calls.events_path(job_id),
                    headers=job_calls.stream_headers(reader.last),
                    timeout=min(STREAM_SECONDS, left),
                ) as response:
                    if not response.is_success:
                        await response.aread()
                        await asyncio.sleep(pause_after_refusal(response, self._retries, attempt))
                        continue
                    if response.status_code == 204:
                        return
                    async for line in response.aiter_lines():
                        for event in reader.line(line):
                            attempt = 0
                            yield event
                        if time.monotonic() > end:
                            break
            except httpx.ReadTimeout:
                continue
            except httpx.TransportError as error:
                await asyncio.sleep(pause_after_loss(error, self._retries, max(1, attempt)))
            # A stream ends by itself when the job has ended or the server stops: the next answer tells which.

    async def upload(self, content: Path | str | bytes, name: str | None = None) -> Artifact:
        """Upload a file (a path) or bytes, to be named in jobs and requests by ``.reference``."""
        path = None if isinstance(content, bytes) else Path(content)
        size = len(content) if isinstance(content, bytes) else Path(content).stat().st_size
        called = name or (path.name if path else "upload")
        attempt = 0
        while True:
            attempt += 1
            try:
                response = await self._http.post(
                    "/v1/artifacts",
                    params={"name": called},
                    content=content if isinstance(content, bytes) else _chunks(Path(content)),
                    headers={
                        "content-type": "application/octet-stream",
                        "content-length": str(size),
                    },
                )
            except httpx.TransportError as error:
                await asyncio.sleep(pause_after_loss(error, self._retries, attempt))
                continue
            if response.is_success:
                return job_calls.artifact(response)
            await asyncio.sleep(pause_after_refusal(response, self._retries, attempt))

    async def download(self, artifact: Artifact, to: Path | str) -> Path:
        """The content of an artifact as the file ``to``; a download that breaks is taken up where it stopped.

        The file appears when it is whole.
        """
        target = Path(to)
        part = target.with_name(target.name + ".part")
        part.unlink(missing_ok=True)
        attempt = 0
        with part.open("wb") as file:
            while file.tell() < artifact.size:
                attempt += 1
                headers = {"range": f"bytes={file.tell()}-", "if-range": f'"{artifact.sha256}"'}
                try:
                    async with self._http.stream("GET", artifact.url, headers=headers) as response:
                        if not response.is_success:
                            await response.aread()
                            await asyncio.sleep(pause_after_refusal(response, self._retries, attempt))
                            continue
                        if response.status_code == 200:
                            file.seek(0)
                            file.truncate()
                        async for chunk in response.aiter_bytes(_CHUNK):
                            file.write(chunk)
                            attempt = 0
                except httpx.TransportError as error:
                    await asyncio.sleep(pause_after_loss(error, self._retries, max(1, attempt)))
        part.replace(target)
        return target

    async def read(self, artifact: Artifact) -> bytes:
        """The content of an artifact, in memory."""
        response = await self._http.get(artifact.url)
        if not response.is_success:
            raise APIError.of(response)
        return response.content


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk
