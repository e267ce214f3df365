"""When to ask again, and after which pause."""

from __future__ import annotations

import random
from dataclasses import dataclass

import httpx

_BUSY = frozenset({429, 503})
_LOST = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)


@dataclass(frozen=True, slots=True)
class Retries:
    """``attempts`` in all. The pause is what the answer asks for (up to ``longest`` seconds), else it doubles.

    A part of every pause is random: clients that were refused together must not come back together.
    """

    attempts: int = 4
    first: float = 0.25
    longest: float = 30.0

    def pause(self, attempt: int, asked: float | None = None) -> float | None:
        """Seconds before the next try after ``attempt`` tries; ``None`` when it is time to give up."""
        if attempt >= self.attempts or (asked is not None and asked > self.longest):
            return None
        backoff = min(self.longest, self.first * 2.0 ** (attempt - 1))
        jitter = random.random()  # noqa: S311
        return backoff * (0.5 + jitter / 2) if asked is None else asked + backoff * jitter / 2


def is_busy(response: httpx.Response) -> bool:
    """Return whether the platform asks to come back later."""
    return response.status_code in _BUSY


def is_lost(error: httpx.TransportError) -> bool:
    """Return whether a request may be sent again after ``error``: no connection, or one that broke before the answer.

    A time-out is none of these: the platform may still be working on the first one.
    """
    return isinstance(error, _LOST)
