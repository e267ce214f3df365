"""The stream of a job's events, put together from its lines."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from sightline.client.job_results import JobEvent, Progress

STREAM_SECONDS = 60.0
"""Silence after which a stream is taken for broken; the platform says something every 15 seconds."""


def progress_of(event: JobEvent) -> Progress:
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
