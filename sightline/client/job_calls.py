"""The calls of ``/v1/jobs`` and ``/v1/artifacts`` as values, and how their answers read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

import httpx
import orjson

from sightline.client.calls import Call
from sightline.client.job_results import Artifact, Job, JobEvent, Page, Progress

STREAM_SECONDS = 60.0
"""Silence after which a stream is taken for broken; the platform says something every 15 seconds."""


def submit(
    kind: str,
    parameters: Mapping[str, object],
    *,
    priority: int,
    webhook: Mapping[str, str] | None,
    idempotency_key: str | None,
) -> Call[Job]:
    """A key is made up when there is none: a submission that is sent again must not become two jobs."""
    body = {"kind": kind, "parameters": dict(parameters), "priority": priority, "webhook": webhook}
    return Call("POST", "/v1/jobs", one, body, {"idempotency-key": idempotency_key or uuid4().hex})


def get(job_id: str) -> Call[Job]:
    return Call("GET", _path(job_id), one)


def page(states: Sequence[str], kinds: Sequence[str], after: str | None) -> Call[Page]:
    asked = [*(("state", state) for state in states), *(("kind", kind) for kind in kinds), ("limit", "100")]
    return Call("GET", "/v1/jobs?" + urlencode([*asked, ("after", after)] if after else asked), _page)


def cancel(job_id: str) -> Call[Job]:
    return Call("POST", f"{_path(job_id)}/cancel", one)


def retry(job_id: str) -> Call[Job]:
    return Call("POST", f"{_path(job_id)}/retry", one)


def delete(job_id: str) -> Call[None]:
    return Call("DELETE", _path(job_id), lambda response: None)


def history(job_id: str, after: int) -> Call[tuple[list[JobEvent], bool]]:
    """What has happened after event ``after``, and whether there is more."""

    def read(response: httpx.Response) -> tuple[list[JobEvent], bool]:
        body = orjson.loads(response.content)
        events = [JobEvent(job_id, e["id"], e["event"], e["data"], e["at"]) for e in body["data"]]
        return events, body["has_more"]

    return Call("GET", f"{events_path(job_id)}?after={after}", read, None, {"accept": "application/json"})


def events_path(job_id: str) -> str:
    return f"{_path(job_id)}/events"


def stream_headers(after: int) -> dict[str, str]:
    return {"accept": "text/event-stream", "last-event-id": str(after)}


def artifact(response: httpx.Response) -> Artifact:
    return _artifact(orjson.loads(response.content))


def progress(event: JobEvent) -> Progress:
    """The progress that an event of that name tells."""
    data = event.data
    return Progress(data.get("step"), data.get("total"), data.get("message"), data.get("metrics") or {})


class EventReader:
    """Puts the lines of a stream together; ``last`` is the number of the last event, to go on from."""

    def __init__(self, job_id: str, after: int) -> None:
        self.last = after
        self._job_id = job_id
        self._fields: dict[str, str] = {}

    def line(self, line: str) -> Iterator[JobEvent]:
        """The event that ``line`` completes, if it does."""
        if line:
            name, _, value = line.partition(":")
            if name:  # a line that begins with a colon is a comment
                self._fields[name] = value.removeprefix(" ")
            return
        fields, self._fields = self._fields, {}
        if "id" in fields and "data" in fields:
            self.last = int(fields["id"])
            data = orjson.loads(fields["data"])
            at = data.pop("at")
            yield JobEvent(self._job_id, self.last, fields.get("event", ""), data, at)


def _path(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def one(response: httpx.Response) -> Job:
    """The job of an answer."""
    return _job(orjson.loads(response.content))


def _page(response: httpx.Response) -> Page:
    body = orjson.loads(response.content)
    return Page([_job(entry) for entry in body["data"]], body["last_id"] if body["has_more"] else None)


def _job(entry: Mapping[str, Any]) -> Job:
    progress = entry["progress"]
    return Job(
        id=entry["id"],
        kind=entry["kind"],
        state=entry["state"],
        progress=Progress(progress["step"], progress["total"], progress["message"], progress["metrics"]),
        attempt=entry["attempt"],
        priority=entry["priority"],
        created_at=entry["created_at"],
        started_at=entry["started_at"],
        finished_at=entry["finished_at"],
        parameters=entry.get("parameters"),
        result=entry["result"],
        error=entry["error"],
        artifacts=tuple(_artifact(made) for made in entry["artifacts"]),
    )


def _artifact(entry: Mapping[str, Any]) -> Artifact:
    return Artifact(entry["id"], entry["name"], entry["media_type"], entry["size"], entry["sha256"], entry["url"])
