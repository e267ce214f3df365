"""A job, an artifact and a page of a list as clients see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from gateway.problems import STATUS, TYPE_BASE
from services.errors import Kind
from services.jobs.records import Document, Job
from services.storage.artifacts import Artifact

_PROGRESS: dict[str, Any] = {"step": None, "total": None, "message": None, "metrics": {}}


def job_document(job: Job, outputs: Sequence[Artifact] = (), *, listed: bool = False) -> dict[str, Any]:
    """The job in the form of ``gateway.resources.schemas.jobs.Job``; without its parameters when ``listed``."""
    document = {
        "object": "job",
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "priority": job.priority,
        "progress": {**_PROGRESS, **job.progress},
        "attempt": job.attempt,
        "cancel_requested": job.cancel_requested,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "result": job.result,
        "error": _problem(job.error) if job.error is not None else None,
        "artifacts": [_output(job, made) for made in outputs],
    }
    if not listed:
        document["parameters"] = job.parameters

    return document


def artifact_document(artifact: Artifact) -> dict[str, Any]:
    """The artifact in the form of ``gateway.resources.schemas.artifacts.Artifact``."""
    return {
        "object": "artifact",
        "id": artifact.id,
        "name": artifact.name,
        "media_type": artifact.media_type,
        "size": artifact.size,
        "sha256": artifact.sha256,
        "job": artifact.job_id,
        "created_at": artifact.created_at,
        "url": f"/v1/artifacts/{artifact.id}/content",
    }


def list_document(documents: Sequence[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    """One page of a list in OpenAI's form, newest first; ``more``: older ones follow ``last_id``."""
    return {
        "object": "list",
        "data": documents,
        "has_more": more,
        "first_id": documents[0]["id"] if documents else None,
        "last_id": documents[-1]["id"] if documents else None,
    }


def _output(job: Job, artifact: Artifact) -> dict[str, Any]:
    return {
        "id": artifact.id,
        "name": artifact.name,
        "media_type": artifact.media_type,
        "size": artifact.size,
        "sha256": artifact.sha256,
        "url": f"/v1/jobs/{job.id}/artifacts/{quote(artifact.name, safe='')}",
    }


def _problem(error: Document) -> dict[str, Any]:
    """A stored problem with what the protocol adds: its type and status."""
    kind = Kind(error.get("kind", Kind.INTERNAL))
    rest = {name: value for name, value in error.items() if name != "kind"}
    return {"type": TYPE_BASE + str(error.get("code", "internal")), "status": STATUS[kind], **rest}
