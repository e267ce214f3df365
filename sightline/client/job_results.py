"""What calls about jobs return. Times in Unix seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is: ``step`` of ``total``, as far as it has said."""

    step: int | None
    total: int | None
    message: str | None
    metrics: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Artifact:
    """Content on the platform; ``size`` in bytes. Name it in requests as ``artifact:{id}``."""

    id: str
    name: str
    media_type: str
    size: int
    sha256: str
    url: str

    @property
    def reference(self) -> str:
        return f"artifact:{self.id}"


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stood when it was asked for; ``error`` is the problem of one that failed."""

    id: str
    kind: str
    state: State
    progress: Progress
    attempt: int
    priority: int
    created_at: float
    started_at: float | None
    finished_at: float | None
    parameters: Mapping[str, Any] | None
    result: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    artifacts: tuple[Artifact, ...]

    @property
    def ended(self) -> bool:
        return self.state in ("succeeded", "failed", "cancelled")

    def artifact(self, name: str) -> Artifact:
        """Return what it made under ``name``. Raises :class:`KeyError`."""
        for made in self.artifacts:
            if made.name == name:
                return made
        raise KeyError(f"{self.id} has made no {name!r}, but {[made.name for made in self.artifacts]}")


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that happened to a job; ``id`` counts up within it, ``event`` is progress, state, metric or log."""

    job_id: str
    id: int
    event: str
    data: Mapping[str, Any]
    at: float


def job_of(entry: Mapping[str, Any]) -> Job:
    """A job from its object in an answer."""
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
        artifacts=tuple(artifact_of(made) for made in entry["artifacts"]),
    )


def artifact_of(entry: Mapping[str, Any]) -> Artifact:
    """An artifact from its object in an answer."""
    return Artifact(entry["id"], entry["name"], entry["media_type"], entry["size"], entry["sha256"], entry["url"])
