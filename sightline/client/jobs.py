"""Jobs by the blocking client: ``client.jobs``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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

    def __call__(self, call: Call[T]) -> T: ...


class Jobs:
    """Long work on the platform. Every method raises :class:`APIError` or :class:`Unreachable`."""

    def __init__(self, http: httpx.Client, retries: Retries, send: Send) -> None:
        self._http = http
        self._retries = retries
        self._send = send

    def submit(
        self,
        kind: str,
        parameters: Mapping[str, object],
        *,
        priority: int = 0,
        webhook: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Submit a job; ``priority`` 0 to 9, the larger first; ``webhook`` has ``url`` and ``secret``."""
        return self._send(
            job_calls.submit(kind, parameters, priority=priority, webhook=webhook, idempotency_key=idempotency_key)
        )

    def get(self, job_id: str) -> Job:
        return self._send(job_calls.get(job_id))

    def list(self, *, states: Sequence[State] = (), kinds: Sequence[str] = ()) -> Iterator[Job]:
        """Jobs, newest first; further pages are fetched as they are reached."""
        after: str | None = None
        while True:
            page = self._send(job_calls.page(states, kinds, after))
            yield from page.jobs
            after = page.next
            if after is None:
                return

    def cancel(self, job_id: str) -> Job:
        """End a waiting job now; ask a running one to stop at its next step."""
        return self._send(job_calls.cancel(job_id))

    def retry(self, job_id: str) -> Job:
        """Queue a failed or cancelled job again, from its last checkpoint."""
        return self._send(job_calls.retry(job_id))

    def promote(
        self,
        job_id: str,
        name: str,
        *,
        dataset: str | None = None,
        model: str | None = None,
        protocol: str | None = None,
    ) -> Job:
        """Make the best adapted result of a benchmark the live model ``name``: the job that does it."""
        return self._send(benchmarks.promote(job_id, name, dataset, model, protocol))

    def delete(self, job_id: str) -> None:
        """Remove a job that has ended, and what it made."""
        self._send(job_calls.delete(job_id))

    def events(self, job_id: str, after: int = 0) -> Iterator[JobEvent]:
        """What happens to the job after event ``after``, as it happens, until it has ended.

        A stream that breaks is taken up again where it stopped.
        """
        return self._follow(job_id, after, None)

    def history(self, job_id: str) -> Iterator[JobEvent]:
        """What has happened to the job so far."""
        after, more = 0, True
        while more:
            page, more = self._send(job_calls.history(job_id, after))
            for event in page:
                after = event.id
                yield event

    def wait(
        self, job_id: str, *, on_progress: Callable[[Progress], None] | None = None, timeout: float | None = None
    ) -> Job:
        """The job once it has succeeded.

        ``on_progress`` is called with every progress. Raises :class:`JobFailed` when it failed or was cancelled,
        :class:`JobTimeout` after ``timeout`` seconds; the job runs on then.
        """
        for event in self._follow(job_id, 0, timeout):
            if event.event == "progress" and on_progress is not None:
                on_progress(job_calls.progress(event))
        job = self.get(job_id)
        if job.state != "succeeded":
            raise JobFailed(job)
        return job

    def _follow(self, job_id: str, after: int, timeout: float | None) -> Iterator[JobEvent]:
        reader, attempt = EventReader(job_id, after), 0
        end = time.monotonic() + (float("inf") if timeout is None else timeout)
        while True:
            attempt += 1
            left = end - time.monotonic()
            if left <= 0:
                raise JobTimeout(job_id, timeout or 0.0)
            try:
                with self._http.stream(
                    "GET",
                    job_calls.events_path(job_id),
                    headers=job_calls.stream_headers(reader.last),
                    timeout=min(STREAM_SECONDS, left),
                ) as response:
                    if not response.is_success:
                        response.read()
                        time.sleep(pause_after_refusal(response, self._retries, attempt))
                        continue
                    if response.status_code == 204:
                        return
                    for line in response.iter_lines():
                        for event in reader.line(line):
                            attempt = 0
                            yield event
                        if time.monotonic() > end:
                            break
            except httpx.ReadTimeout:
                continue
            except httpx.TransportError as error:
                time.sleep(pause_after_loss(error, self._retries, max(1, attempt)))
            # A stream ends by itself when the job has ended or the server stops: the next answer tells which.

    def upload(self, content: Path | str | bytes, name: str | None = None) -> Artifact:
        """Upload a file (a path) or bytes, to be named in jobs and requests by ``.reference``."""
        path = None if isinstance(content, bytes) else Path(content)
        size = len(content) if isinstance(content, bytes) else Path(content).stat().st_size
        called = name or (path.name if path else "upload")
        attempt = 0
        while True:
            attempt += 1
            try:
                response = self._http.post(
                    "/v1/artifacts",
                    params={"name": called},
                    content=content if isinstance(content, bytes) else _chunks(Path(content)),
                    headers={
                        "content-type": "application/octet-stream",
                        "content-length": str(size),
                    },
                )
            except httpx.TransportError as error:
                time.sleep(pause_after_loss(error, self._retries, attempt))
                continue
            if response.is_success:
                return job_calls.artifact(response)
            time.sleep(pause_after_refusal(response, self._retries, attempt))

    def download(self, artifact: Artifact, to: Path | str) -> Path:
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
                    with self._http.stream("GET", artifact.url, headers=headers) as response:
                        if not response.is_success:
                            response.read()
                            time.sleep(pause_after_refusal(response, self._retries, attempt))
                            continue
                        if response.status_code == 200:
                            file.seek(0)
                            file.truncate()
                        for chunk in response.iter_bytes(_CHUNK):
                            file.write(chunk)
                            attempt = 0
                except httpx.TransportError as error:
                    time.sleep(pause_after_loss(error, self._retries, max(1, attempt)))
        part.replace(target)
        return target

    def read(self, artifact: Artifact) -> bytes:
        """The content of an artifact, in memory."""
        response = self._http.get(artifact.url)
        if not response.is_success:
            raise APIError.of(response)
        return response.content


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
