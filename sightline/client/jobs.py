"""``client.jobs``: long work, submitted, watched to its end, and fetched."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from uuid import uuid4

import httpx

from sightline.client.artifacts import Artifacts
from sightline.client.connection import pause_after_loss, pause_after_refusal
from sightline.client.errors import JobFailed, JobTimeout
from sightline.client.events import STREAM_SECONDS, EventReader, progress_of
from sightline.client.halves import N, call, stream
from sightline.client.job_results import Job, JobEvent, Progress, State, job_of
from sightline.client.resource import json_of, nothing, segment


class Jobs(Artifacts[N]):
    """Long work on the platform. Every method raises :class:`APIError` or :class:`Unreachable`.

    >>> with Client() as client:
    ...     job = client.jobs.submit("count", {"up_to": 4})
    ...     done = client.jobs.wait(job.id, timeout=60)
    ...     numbers = client.jobs.read(done.artifact("numbers.txt"))
    >>> done.state, numbers.split()
    ('succeeded', [b'0', b'1', b'2', b'3'])
    """

    @call
    async def submit(
        self,
        kind: str,
        parameters: Mapping[str, object],
        *,
        priority: int = 0,
        webhook: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Submit a job; ``priority`` 0 to 9, the larger first; ``webhook`` has ``url`` and ``secret``.

        An ``idempotency_key`` is made up when there is none: a submission that is sent again must not become two jobs.
        """
        body = {"kind": kind, "parameters": dict(parameters), "priority": priority, "webhook": webhook}
        headers = {"idempotency-key": idempotency_key or uuid4().hex}
        return await self._ask("POST", "/v1/jobs", _job, body=body, headers=headers)

    @call
    async def get(self, job_id: str) -> Job:
        """A job as it stands."""
        return await self._ask("GET", _path(job_id), _job)

    @stream
    def list(self, *, states: Sequence[State] = (), kinds: Sequence[str] = ()) -> AsyncIterator[Job]:
        """Jobs, newest first; further pages are fetched as they are reached."""
        asked = [*(("state", state) for state in states), *(("kind", kind) for kind in kinds)]
        return self._pages("/v1/jobs", job_of, asked)

    @call
    async def cancel(self, job_id: str) -> Job:
        """End a waiting job now; ask a running one to stop at its next step."""
        return await self._ask("POST", f"{_path(job_id)}/cancel", _job)

    @call
    async def retry(self, job_id: str) -> Job:
        """Queue a failed or cancelled job again, from its last checkpoint."""
        return await self._ask("POST", f"{_path(job_id)}/retry", _job)

    @call
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
        body = {"name": name, "dataset": dataset, "model": model, "protocol": protocol}
        return await self._ask("POST", f"{_path(job_id)}/promote", _job, body=body)

    @call
    async def delete(self, job_id: str) -> None:
        """Remove a job that has ended, and what it made."""
        await self._ask("DELETE", _path(job_id), nothing)

    @stream
    def events(self, job_id: str, after: int = 0) -> AsyncIterator[JobEvent]:
        """What happens to the job after event ``after``, as it happens, until it has ended.

        A stream that breaks is taken up again where it stopped.
        """
        return self._follow(job_id, after, None)

    @stream
    async def history(self, job_id: str) -> AsyncIterator[JobEvent]:
        """What has happened to the job so far."""
        after, more = 0, True
        while more:
            path, headers = f"{_path(job_id)}/events?after={after}", {"accept": "application/json"}
            events, more = await self._ask("GET", path, lambda response: _history(job_id, response), headers=headers)
            for event in events:
                after = event.id
                yield event

    @call
    async def wait(
        self,
        job_id: str,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 (the blocking half has it too)
    ) -> Job:
        """The job once it has succeeded.

        ``on_progress`` is called with every progress. Raises :class:`JobFailed` when it failed or was cancelled,
        :class:`JobTimeout` after ``timeout`` seconds; the job runs on then.
        """
        async for event in self._follow(job_id, 0, timeout):
            if event.event == "progress" and on_progress is not None:
                on_progress(progress_of(event))

        job = await self._ask("GET", _path(job_id), _job)
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
            headers = {"accept": "text/event-stream", "last-event-id": str(reader.last)}
            try:
                async with self._open(
                    "GET", f"{_path(job_id)}/events", headers=headers, timeout=min(STREAM_SECONDS, left)
                ) as response:
                    if response.status_code == 204:
                        return
                    if not response.is_success:
                        await response.aread()
                        await self._network.sleep(pause_after_refusal(response, self._retries, attempt))
                        continue
                    async for line in response.aiter_lines():
                        for event in reader.line(line):
                            attempt = 0
                            yield event
                        if time.monotonic() > end:
                            break
            except httpx.ReadTimeout:
                continue
            except httpx.TransportError as error:
                await self._network.sleep(pause_after_loss(error, self._retries, max(1, attempt)))
            # A stream ends by itself when the job has ended or the server stops: the next answer tells which.


def _path(job_id: str) -> str:
    return f"/v1/jobs/{segment(job_id)}"


def _job(response: httpx.Response) -> Job:
    return job_of(json_of(response))


def _history(job_id: str, response: httpx.Response) -> tuple[Sequence[JobEvent], bool]:
    """A page of what has happened, and whether there is more."""
    body = json_of(response)
    events = [JobEvent(job_id, entry["id"], entry["event"], entry["data"], entry["at"]) for entry in body["data"]]
    return events, body["has_more"]
