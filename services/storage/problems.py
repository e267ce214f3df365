"""What the store of artifacts says when something is not there, is too large, or finds no room."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from services.errors import Kind, Problem

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says when there is no room."""


def not_found(artifact_id: str) -> Problem:
    return Problem(
        Kind.NOT_FOUND,
        "artifact-not-found",
        "Artifact does not exist",
        f"No artifact of yours has the id {artifact_id[:64]!r}.",
        remedy="Artifacts belong to the key that made them, and are kept for a limited time.",
    )


def too_large(limit: int) -> Problem:
    return Problem(
        Kind.TOO_LARGE, "artifact-too-large", "Artifact is too large", f"At most {limit:,} bytes are accepted."
    )


def over_quota(quota: int) -> Problem:
    return Problem(
        Kind.TOO_LARGE,
        "artifact-quota",
        "Storage quota is used up",
        f"The artifacts of a key may take {quota:,} bytes in all (artifact_quota_bytes).",
        remedy="Delete artifacts or finished jobs that are no longer needed.",
    )


@contextlib.contextmanager
def storage_problems() -> Iterator[None]:
    """Trouble of the disk or the store, as a problem that may go away: ``storage-full``, ``storage-unavailable``."""
    try:
        yield
    except OSError as error:
        full = error.errno in FULL
        raise Problem(
            Kind.UNAVAILABLE,
            "storage-full" if full else "storage-unavailable",
            "Storage is full" if full else "Storage is not available",
            f"{type(error).__name__}: {error.strerror or error}",
            remedy="Free space where the artifacts lie." if full else None,
            retry_after=30,
        ) from error
