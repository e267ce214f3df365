"""Some cells of the matrix in every run of the suite: all kinds of death among 200 jobs, on one platform each.

The whole matrix takes half an hour: ``python tests/faults/matrix.py``.
"""

from __future__ import annotations

import base64
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.faults import failpoints, scenarios
from tests.faults.running import Platform
from tests.faults.scenarios import Strike, clock_jumps, delivered_twice, disk_full, flushed, killed, locked, stopped
from tests.support import tiny_models
from tests.support.pictures import encoded, photo
from tests.support.postgres import Postgres
from tests.support.serving import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


def all_end_once(platform: Platform, strikes: list[Strike], jobs: int) -> None:
    """Submit ``jobs`` in as many parts as there are strikes, strike after each, and see all of them end rightly."""
    ids: list[str] = []
    part = jobs // len(strikes)
    for strike in strikes:
        before = platform.states()["succeeded"]
        ids += platform.submit(part)
        eventually(lambda before=before: platform.states()["succeeded"] > before, 60)
        strike(platform)
    ids += platform.submit(jobs - len(ids))
    platform.wait(200)
    platform.verify(ids)


def test_killing_every_process_in_every_moment_loses_none_of_200_jobs(tmp_path: Path) -> None:
    platform = Platform(tmp_path / "data", concurrency=2)
    try:
        all_end_once(
            platform,
            [
                killed("child", "checkpoint"),
                killed("worker", "step"),
                killed("broker", "ack"),
                killed("maintenance", "step"),
                killed("gateway", "publish"),
                flushed,
                delivered_twice,
                killed("launcher", "ack"),
                disk_full,
                stopped("publish"),
            ],
            200,
        )
    finally:
        platform.close()


def test_the_same_holds_on_postgresql_with_its_own_restart(tmp_path: Path, postgres: Postgres) -> None:
    platform = Platform(tmp_path / "data", database_url=postgres.database(), concurrency=2)
    try:
        all_end_once(
            platform,
            [
                killed("child", "publish"),
                killed("worker", "ack"),
                lambda _: postgres.restart(),
                killed("launcher", "checkpoint"),
                stopped("step"),
            ],
            60,
        )
    finally:
        platform.close()


def test_locks_and_clocks_lose_nothing(tmp_path: Path) -> None:
    platform = Platform(tmp_path / "data", more={"PYTHONPATH": str(scenarios.CLOCK)})
    try:
        all_end_once(platform, [clock_jumps(3600), locked, clock_jumps(-3600)], 60)
    finally:
        platform.close()


def test_a_killed_worker_is_recovered_from_within_15_seconds(tmp_path: Path) -> None:
    platform = Platform(tmp_path / "data")
    try:
        for role in ("child", "worker"):
            [job] = platform.submit(1)
            failpoints.arm(platform.data, "step")
            platform.wait_for(lambda: failpoints.hit(platform.data) is not None)
            begin = time.monotonic()
            platform.kill(role)
            platform.wait(30)
            assert time.monotonic() - begin < 15
            done = platform.services.jobs.get("anonymous", job)
            assert (done.state, done.attempt) == ("succeeded", 2)
    finally:
        platform.close()


def test_a_job_that_kills_every_worker_fails_and_progress_is_not_punished(tmp_path: Path) -> None:
    platform = Platform(tmp_path / "data")
    try:
        deadly = {"up_to": 6, "die_at": 4, "deaths": 99, "checkpoint_every": 0}
        [poison] = platform.submit(1, **deadly)
        platform.wait(90)
        job = platform.services.jobs.get("anonymous", poison)
        assert (job.state, job.attempt) == ("failed", 3)
        assert job.error is not None and job.error["code"] == "job-worker-lost"
        # This one dies four times, but further on each time.
        [slow] = platform.submit(1, kind="die-further", times=4)
        platform.wait(90)
        job = platform.services.jobs.get("anonymous", slow)
        assert (job.state, job.attempt) == ("succeeded", 5)
    finally:
        platform.close()


def test_a_stopping_server_hands_its_jobs_back_unharmed(tmp_path: Path) -> None:
    platform = Platform(tmp_path / "data")
    try:
        [job] = platform.submit(1, up_to=100, pause=0.05, checkpoint_every=10)
        platform.wait_for(lambda: platform.services.jobs.get("anonymous", job).checkpoint is not None)
        begin = time.monotonic()
        assert platform.server.stop(signal.SIGTERM) == 0
        assert time.monotonic() - begin < 20
        waiting = platform.services.jobs.get("anonymous", job)
        assert (waiting.state, waiting.deaths) == ("queued", 0)
        platform.start()
        platform.wait(60)
        done = platform.services.jobs.get("anonymous", job)
        assert (done.state, done.attempt, done.result) == ("succeeded", 2, {"total": 4950, "counted": 100})
    finally:
        platform.close()


def test_a_batch_survives_the_death_of_the_gateway_and_of_its_worker(tmp_path: Path) -> None:
    tiny_models.add_classifier(tmp_path / "data" / "models")
    platform = Platform(tmp_path / "data", queue="batch")
    try:
        image = base64.b64encode(encoded(photo(32, 32), "JPEG")).decode()
        lines = [
            {"custom_id": f"n{n}", "url": "/v1/classify", "body": {"model": "tiny-classifier", "image": image}}
            for n in range(1500)
        ]
        with platform.services.artifacts.draft() as draft:
            draft.write(b"\n".join(orjson.dumps(line) for line in lines))
            sent = platform.services.artifacts.add(draft, "anonymous", "lines.jsonl", "application/jsonl")
        [job] = platform.submit(1, kind="batch", input=f"artifact:{sent.id}", checkpoint_lines=100)
        for role in ("gateway", "worker"):
            seen = platform.services.jobs.get("anonymous", job).progress.get("step") or 0
            platform.wait_for(
                lambda seen=seen: (platform.services.jobs.get("anonymous", job).progress.get("step") or 0) > seen + 50
            )
            platform.kill(role)
        platform.wait(120)
        done = platform.services.jobs.get("anonymous", job)
        assert (done.state, done.result) == ("succeeded", {"lines": 1500, "succeeded": 1500, "failed": 0})
        [made] = platform.services.artifacts.of_job(job)
        rows = [orjson.loads(line) for line in b"".join(platform.services.artifacts.read(made)).splitlines()]
        assert [row["custom_id"] for row in rows] == [line["custom_id"] for line in lines]
        assert {row["response"]["status_code"] for row in rows} == {200}
    finally:
        platform.close()
