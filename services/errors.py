"""The one error that crosses floors: what went wrong, where, and what to do about it.

Services raise :class:`Problem`; the gateway turns its kind into a status code and its fields into the body
(RFC 9457 under ``/v1``, the protocol's own form under ``/v2``). Nothing below the gateway knows a status code.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What sort of trouble it is, in the order of the status codes that the gateway gives them."""

    MALFORMED = "malformed"  # 400: cannot be parsed at all
    UNAUTHENTICATED = "unauthenticated"  # 401
    FORBIDDEN = "forbidden"  # 403
    NOT_FOUND = "not-found"  # 404: unknown, or not yours
    SLOW = "slow"  # 408: the client did not send its body in time
    CONFLICT = "conflict"  # 409
    TOO_LARGE = "too-large"  # 413
    UNSUPPORTED_TYPE = "unsupported-type"  # 415
    INVALID = "invalid"  # 422: understood, but wrong
    TOO_MANY = "too-many"  # 429: over a limit or a full queue; carries retry_after
    CANCELLED = "cancelled"  # 499: the client left
    INTERNAL = "internal"  # 500: a bug
    UNAVAILABLE = "unavailable"  # 503: not ready; carries retry_after
    DEADLINE = "deadline"  # 504


class Problem(Exception):
    """A refusal or failure that a person will read.

    ``code`` is a stable slug (``image-truncated``), ``title`` the sentence that goes with every such problem,
    ``detail`` what happened this time, ``pointer`` a JSON pointer into the request (``/images/3``), ``remedy``
    what to do, ``retry_after`` seconds.
    """

    def __init__(
        self,
        kind: Kind,
        code: str,
        title: str,
        detail: str = "",
        *,
        pointer: str | None = None,
        remedy: str | None = None,
        retry_after: float | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail or title)
        self.kind = kind
        self.code = code
        self.title = title
        self.detail = detail
        self.pointer = pointer
        self.remedy = remedy
        self.retry_after = retry_after
        self.extra = extra or {}

    def at(self, pointer: str) -> Problem:
        """The same problem, pointing at ``pointer``: services do not know where in a request a value stood."""
        self.pointer = pointer
        return self
