"""What tests of services share: one PostgreSQL server for the session; what needs jobs runs on SQLite and on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.jobs.services import JobServices
from services.settings import Settings
from services.storage.database import upgrade
from tests.support.postgres import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'sightline.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


@pytest.fixture
def services(database_url: str, tmp_path: Path) -> Iterator[JobServices]:
    upgrade(database_url)
    settings = Settings(
        data_dir=tmp_path / "data",
        database_url=database_url,
        job_modules=("tests.support.job_kinds",),
        job_heartbeat=0.2,
        job_lease=1.0,
    )
    opened = JobServices.open(settings)
    yield opened
    opened.close()
