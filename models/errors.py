"""What goes wrong below the services: one small family of exceptions for the people who read them."""

from __future__ import annotations

from pydantic import ValidationError

SHOWN = 3


class ModelError(Exception):
    """A failure with what to do about it: ``str()`` says what happened, ``remedy`` the next step."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class SourceError(ModelError):
    """A source cannot be fetched, or is not what the lock says."""


class HashMismatch(SourceError):
    """Other bytes than the pinned ones: nothing of them is kept. ``pins`` is where they are pinned."""

    def __init__(self, what: str, expected: str, actual: str, pins: str = "models/catalog/sources.lock") -> None:
        super().__init__(
            f"{what} has sha256 {actual}, but {pins} pins {expected}. It was discarded.",
            "The file was changed by its publisher or a mirror, or damaged on the way. Pull again. If that "
            f"does not help, do not use it: ask its publisher before the pin in {pins} is changed.",
        )
        self.expected = expected
        self.actual = actual


def invalid_fields(error: ValidationError) -> str:
    """The fields of a data file that are wrong and what is wrong with each; spelling mistakes first, at most three."""
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    lines = [
        f"{'.'.join(str(part) for part in problem['loc']) or 'the file'}: {problem['msg']}"
        for problem in problems[:SHOWN]
    ]
    rest = len(problems) - len(lines)
    return "; ".join(lines) + (f"; and {rest} more" if rest else "")
