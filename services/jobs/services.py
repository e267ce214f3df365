"""What jobs need of the platform, opened once in a process and handed down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from sqlalchemy import Engine

from services import tracing
from services.jobs.records import JobStore
from services.settings import Settings
from services.storage.artifacts import ArtifactStore
from services.storage.blobs import open_blobs
from services.storage.database import connect
from services.tracing import Tracing


@dataclass(frozen=True, slots=True)
class JobServices:
    """The database, the artifacts and the jobs. Made after a fork, never before."""

    settings: Settings
    engine: Engine
    artifacts: ArtifactStore
    jobs: JobStore
    tracing: Tracing | None = None

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Over the database of ``settings``, whose schema must be up to date. Raises ``tracing-missing``."""
        return cls.over(settings, connect(settings.database), tracing.start(settings, "sightline-worker"))

    @classmethod
    def over(cls, settings: Settings, engine: Engine, tracing: Tracing | None = None) -> Self:
        """Over a database that is open already."""
        artifacts = ArtifactStore(
            engine,
            open_blobs(settings.artifact_address, settings.artifact_options),
            settings.scratch_dir,
            quota_bytes=settings.artifact_quota_bytes,
        )
        return cls(settings, engine, artifacts, JobStore(engine, artifacts), tracing)

    def close(self) -> None:
        self.engine.dispose()
        if self.tracing is not None:
            self.tracing.close()
