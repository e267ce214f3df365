"""The data set store of a process, over what the process has open already."""

from __future__ import annotations

from sqlalchemy import Engine

from services.datasets.store import DatasetStore
from services.media.intake import Limits
from services.settings import Settings
from services.storage.artifacts import ArtifactStore


def dataset_store(settings: Settings, engine: Engine, artifacts: ArtifactStore) -> DatasetStore:
    """Over the database and artifacts of ``settings``."""
    return DatasetStore(engine, artifacts, settings.scratch_dir, Limits.of(settings))
