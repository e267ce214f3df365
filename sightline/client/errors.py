"""What a client raises::

SightlineError
├── APIError       the platform answered, and refused
├── Unreachable    there was no answer
├── JobFailed      a job ended without success
└── JobTimeout     a job has not ended in time
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from sightline.client.job_results import Job


class SightlineError(Exception):
    """Any failure of a call. ``remedy`` is what to do about it, if anybody knows."""

    remedy: str | None = None


class Unreachable(SightlineError):
    """No answer: the platform does not run, its address is wrong, or it took too long."""

    def __init__(self, url: str, reason: str, remedy: str | None = None) -> None:
        super().__init__(f"{url}: {reason}")
        self.url = url
        self.reason = reason
        self.remedy = remedy


class APIError(SightlineError):
    """An answer that is not a success; its fields are those of the problem body.

    ``code`` is the stable name of the problem (``image-truncated``), ``pointer`` the JSON pointer to the part of the
    request that is wrong, ``retry_after`` seconds.
    """

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str,
        *,
        pointer: str | None = None,
        remedy: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{detail or title} (status {status}, {code})")
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.pointer = pointer
        self.remedy = remedy
        self.request_id = request_id
        self.retry_after = retry_after

    @staticmethod
    def of(response: httpx.Response) -> APIError:
        """The error of an answer whose body has been read, whoever sent it: a proxy may have."""
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            body = {}

        def text(name: str) -> str | None:
            value = body.get(name)
            return value if isinstance(value, str) else None

        return APIError(
            response.status_code,
            (text("type") or "unknown").rpartition("/")[2],
            text("title") or response.reason_phrase,
            text("detail") or text("error") or f"{response.url} answered {response.status_code}.",
            pointer=text("pointer"),
            remedy=text("remedy"),
            request_id=text("request_id") or response.headers.get("x-request-id"),
            retry_after=seconds(response.headers.get("retry-after")),
        )


class JobFailed(SightlineError):
    """A job that was waited for failed or was cancelled; ``job`` says why."""

    def __init__(self, job: Job) -> None:
        error = job.error or {}
        reason = error.get("detail") or error.get("title")
        super().__init__(f"{job.id} {job.state}" + (f": {reason}" if reason else ""))
        self.job = job
        self.remedy = error.get("remedy")


class JobTimeout(SightlineError):
    """A job had not ended when the time to wait was over; it goes on."""

    def __init__(self, job_id: str, seconds: float) -> None:
        super().__init__(f"{job_id} has not ended within {seconds:g} seconds; it goes on")
        self.job_id = job_id


def seconds(value: str | None) -> float | None:
    """``Retry-After`` in seconds; the form with a date is not used by anybody who answers an API."""
    try:
        return max(0.0, float(value)) if value is not None else None
    except ValueError:
        return None
