"""What a key may have is counted right, however many ask at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier

from services.errors import Problem
from services.jobs.records import Order
from services.jobs.services import JobServices
from services.storage.artifacts import ArtifactStore
from services.storage.blobs import open_blobs

CALLERS = 8


def accepted(call: Callable[[int], object]) -> int:
    """How many of ``CALLERS`` calls at one moment were not refused."""
    together = Barrier(CALLERS)

    def one(number: int) -> bool:
        together.wait()
        try:
            call(number)
        except Problem as problem:
            assert problem.code in ("too-many-jobs", "artifact-quota")
            return False
        return True

    with ThreadPoolExecutor(CALLERS) as threads:
        return sum(threads.map(one, range(CALLERS)))


def test_submissions_at_one_moment_stay_within_the_quota(services: JobServices) -> None:
    for owner in ("a", "b", "c"):
        assert (
            accepted(lambda n, owner=owner: services.jobs.submit(owner, Order("count", "default", {}), max_queued=3))
            == 3
        )  # type: ignore[misc]
        assert len(services.jobs.list(owner)) == 3


def test_uploads_at_one_moment_stay_within_the_quota(services: JobServices) -> None:
    folder = open_blobs(services.settings.artifact_address)
    small = ArtifactStore(services.engine, folder, services.settings.scratch_dir, quota_bytes=25)

    def add(owner: str, number: int) -> None:
        with small.draft() as draft:
            draft.write(b"%10d" % number)
            small.add(draft, owner, "file", "text/plain")

    for owner in ("a", "b", "c"):
        assert accepted(partial(add, owner)) == 2
        assert small.room(owner) == 5
