"""How long an import may take, and the way to end one that nobody waits for."""

from __future__ import annotations

import time

from services.errors import Kind, Problem


class TimeLimit:
    """A watch (see :func:`services.datasets.importing.import_archive`): raises when ``seconds`` are over, or at an end.

    >>> limit = TimeLimit(60)
    >>> limit()
    >>> limit.end()
    >>> limit()
    Traceback (most recent call last):
        ...
    services.errors.Problem: The import was given up: nobody waits for it, or the server stops.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._ended = False

    def begin(self) -> None:
        """Count from now: waiting for a turn is not the import's own time."""
        self._end = time.monotonic() + self._seconds

    def end(self) -> None:
        """Let the next look raise, from whatever thread."""
        self._ended = True

    def __call__(self) -> None:
        if self._ended:
            raise Problem(
                Kind.UNAVAILABLE,
                "import-ended",
                "The import was ended",
                "The import was given up: nobody waits for it, or the server stops.",
                remedy="Send the data set again.",
                retry_after=5.0,
            )
        if time.monotonic() > self._end:
            raise Problem(
                Kind.DEADLINE,
                "import-timeout",
                "The import took too long",
                f"The data set was not read after {self._seconds:g} s (import_seconds).",
                remedy="Upload it in parts, or ask the operator to raise SIGHTLINE_IMPORT_SECONDS.",
            )
