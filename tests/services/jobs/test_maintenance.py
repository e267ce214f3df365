"""Maintenance removes what is over, keeps what is not, and goes on through trouble that passes."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from services.jobs import leases
from services.jobs.maintenance import Maintenance, _Duty
from services.jobs.services import JobServices
from services.storage.database import writing
from services.storage.tables import artifacts, jobs
from tests.services.jobs.test_runner import OWNER, submit


@pytest.fixture
def keeping(services: JobServices) -> Maintenance:
    nowhere = services.settings.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"})
    return Maintenance(replace(services, settings=nowhere))


def test_what_is_over_is_removed_and_what_runs_is_kept(services: JobServices, keeping: Maintenance) -> None:
    running, old = submit(services, "count"), submit(services, "count")
    lease = leases.claim(services.engine, running.id, "elsewhere")
    assert lease is not None
    services.jobs.cancel(OWNER, old.id)
    with services.artifacts.draft() as draft:
        draft.write(b"old")
        sent = services.artifacts.add(draft, OWNER, "old", "text/plain")
    long_ago = time.time() - 31 * 86_400
    with writing(services.engine) as connection:
        connection.execute(update(jobs).where(jobs.c.id == old.id).values(finished_at=long_ago))
        connection.execute(update(artifacts).where(artifacts.c.id == sent.id).values(created_at=long_ago))
    attempts = services.settings.scratch_dir / "jobs"
    packages = services.settings.cache_dir / "datasets"
    for folder in (attempts / f"{running.id}.{lease.fence}", attempts / f"{running.id}.0", packages):
        folder.mkdir(parents=True)
    (packages / "of-a-deleted-set.zip").touch()
    keeping.tidy()
    assert [job.id for job in services.jobs.list(OWNER)] == [running.id]
    assert services.artifacts.list(OWNER) == []
    assert [path.name for path in attempts.iterdir()] == [f"{running.id}.{lease.fence}"]
    assert list(packages.iterdir()) == []


def test_passing_trouble_is_waited_out_and_a_bug_ends_the_process(keeping: Maintenance) -> None:
    tries: list[float] = []

    def work() -> None:
        tries.append(time.monotonic())
        if len(tries) == 1:
            raise OperationalError("SELECT 1", {}, Exception("the database is away"))
        raise ZeroDivisionError

    keeping._duties = [_Duty("work", 0.01, work)]
    with pytest.raises(ZeroDivisionError):
        keeping.run()
    assert len(tries) == 2 and tries[1] - tries[0] >= 1
