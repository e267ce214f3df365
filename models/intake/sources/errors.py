"""What goes wrong between a pinned source and a verified file."""

from __future__ import annotations

from models.errors import ModelError


class SourceError(ModelError):
    """A source cannot be fetched, or is not what the lock says."""


class HashMismatch(SourceError):
    """Other bytes than the pinned ones: nothing of them is kept."""

    def __init__(self, what: str, expected: str, actual: str) -> None:
        super().__init__(
            f"{what} has sha256 {actual}, but sources.lock pins {expected}. It was discarded.",
            "The file was changed by its publisher or a mirror, or damaged on the way. Pull again. If that "
            "does not help, do not use it: ask its publisher before the pin in models/catalog/sources.lock is changed.",
        )
        self.expected = expected
        self.actual = actual
