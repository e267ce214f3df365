"""The faults of docs/reliability.md: what is done to the platform, and what must be true afterwards."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import text

from services.jobs import broker, events
from services.jobs.celery_app import TASK, make_app
from services.storage.database import connect
from tests.faults import failpoints
from tests.faults.running import ROLES, UP_TO, Platform
from tests.support.serving import alive, eventually

CLOCK = Path(__file__).parent / "clock"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the jobs. Seconds: from the fault to the next job that ended, and the whole run."""

    fault: str
    when: str
    jobs: int
    recovery: float | None
    seconds: float
    error: str | None = None

    def row(self) -> str:
        lines = (self.error or "").strip().splitlines() or ["?"]
        right = "yes" if self.error is None else f"**no**: {lines[-1][:300]}"
        recovery = "-" if self.recovery is None else f"{self.recovery:.1f} s"
        return f"| {self.fault} | {self.when} | {self.jobs} | {right} | {recovery} | {self.seconds:.0f} s |"


@dataclass(frozen=True, slots=True)
class Scenario:
    """``strike`` does the harm while jobs wait and run; it returns when the harm is done."""

    fault: str
    when: str
    strike: Callable[[Platform], None]
    concurrency: int = 1
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.fault}, {self.when}"


def play(scenario: Scenario, folder: Path, jobs: int, database_url: str | None) -> Outcome:
    """One scenario on a platform of its own, judged."""
    begin = time.monotonic()
    recovery: float | None = None
    error: str | None = None
    try:
        platform = Platform(
            folder / "data", database_url=database_url, concurrency=scenario.concurrency, more=scenario.environment
        )
        try:
            recovery = run(platform, scenario, jobs)
        finally:
            platform.close()
    except (AssertionError, OSError, subprocess.SubprocessError) as failure:
        error = str(failure) or repr(failure)
    return Outcome(scenario.fault, scenario.when, jobs, recovery, time.monotonic() - begin, error)


def run(platform: Platform, scenario: Scenario, jobs: int) -> float:
    """Submit half, strike, submit the rest, wait, verify. Returns how long after the fault the next job ended."""
    ids = platform.submit(jobs // 2)
    platform.wait_for(lambda: platform.states()["succeeded"] > 0)
    scenario.strike(platform)
    struck, before = time.monotonic(), platform.states()["succeeded"]
    ids += platform.submit(jobs - len(ids))
    eventually(lambda: platform.states()["succeeded"] > before, 90)
    recovery = time.monotonic() - struck
    platform.wait(240)
    platform.verify(ids)
    return recovery


def killed(role: str, place: str) -> Callable[[Platform], None]:
    """Kill a process while a job stands at ``place``; ``idle``: while none runs."""

    def strike(platform: Platform) -> None:
        if place == "idle":
            platform.wait()
            platform.kill(role)
            return
        failpoints.arm(platform.data, place)
        platform.wait_for(lambda: failpoints.hit(platform.data) is not None)
        platform.kill(role)
        failpoints.go(platform.data)

    return strike


def stopped(place: str) -> Callable[[Platform], None]:
    """Stop a worker's child at ``place`` until its job was done by another, then let it go on."""

    def strike(platform: Platform) -> None:
        failpoints.arm(platform.data, place)
        platform.wait_for(lambda: failpoints.hit(platform.data) is not None)
        sleeper = failpoints.hit(platform.data)
        assert sleeper is not None
        [job] = [h.job_id for h in _holdings(platform) if f":{sleeper}:" in h.worker]
        os.kill(sleeper, signal.SIGSTOP)
        failpoints.go(platform.data)
        try:
            platform.wait_for(lambda: platform.services.jobs.get("anonymous", job).state == "succeeded", 60)
        finally:
            os.kill(sleeper, signal.SIGCONT)
        told = [event.data for event in events.after(platform.services.engine, job, 0) if event.event == "state"]
        assert [data["state"] for data in told] == ["queued", "running", "queued", "running", "succeeded"]
        platform.wait_for(lambda: "job lost" in platform.server.log or not alive(sleeper), 30)

    return strike


def flushed(platform: Platform) -> None:
    """Empty the broker while jobs wait in it."""
    with broker.connection(broker.url_of(platform.settings)) as client:
        assert client.llen("default\x06\x169") > 0
        client.flushall()


def broker_restarted(platform: Platform) -> None:
    platform.kill("broker", signal.SIGTERM)


def locked(platform: Platform) -> None:
    """Hold the database for longer than anybody waits for it."""
    if platform.settings.database.startswith("sqlite"):
        holder = sqlite3.connect(platform.settings.data_dir / "sightline.db", isolation_level=None, timeout=30)
        holder.execute("BEGIN EXCLUSIVE")
        time.sleep(13)
        holder.execute("ROLLBACK")
        holder.close()
        return
    engine = connect(platform.settings.database)
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"))
        time.sleep(13)
    engine.dispose()


def delivered_twice(platform: Platform) -> None:
    """Send a second message for every job that waits, and for those that have ended."""
    app = make_app(platform.settings)
    for job in platform.services.jobs.list("anonymous", limit=1000):
        app.send_task(TASK, args=[job.id], exchange="", routing_key="default", priority=9)
    app.close()


def clock_jumps(seconds: float) -> Callable[[Platform], None]:
    """Move the clock of every process by ``seconds`` while jobs run."""

    def strike(platform: Platform) -> None:
        platform.wait_for(lambda: platform.states()["running"] > 0)
        (platform.data / "clock").write_text(str(seconds))
        time.sleep(1)
        assert not any(job.attempt > 1 for job in platform.services.jobs.list("anonymous", limit=1000))

    return strike


def disk_full(platform: Platform) -> None:
    """Leave no room for artifacts until a job has told that it waits for some."""
    full = platform.data / "failpoints" / "full"
    full.parent.mkdir(parents=True, exist_ok=True)
    full.touch()
    try:
        platform.wait_for(lambda: any("trying again" in line for line in _job_logs(platform)), 60)
    finally:
        full.unlink()


def poisoned(platform: Platform) -> None:
    """A job that kills its worker whenever it runs fails after three, and the others do not suffer."""
    parameters = {"up_to": UP_TO, "die_at": 1, "deaths": 99, "checkpoint_every": 0}
    [bad] = platform.submit(1, **parameters)
    platform.wait_for(lambda: platform.services.jobs.get("anonymous", bad).state == "failed", 120)
    job = platform.services.jobs.get("anonymous", bad)
    assert job.attempt == 3 and job.error is not None and job.error["code"] == "job-worker-lost"
    platform.http.delete(f"/v1/jobs/{bad}")
    with platform.services.engine.begin() as connection:
        connection.execute(text("DELETE FROM job_totals WHERE state = 'failed'"))


def _holdings(platform: Platform):  # type: ignore[no-untyped-def]
    from services.jobs.leases import holdings

    return holdings(platform.services.engine)


def _job_logs(platform: Platform) -> Iterator[str]:
    for job in platform.services.jobs.list("anonymous", states=["running"]):
        for event in events.after(platform.services.engine, job.id, 0):
            if event.event == "log":
                yield str(event.data["message"])


_KILLS = [
    Scenario(f"kill -9 {role}", when, killed(role, place))
    for role in ROLES
    for place, when in (
        ("idle", "idle"),
        ("step", "mid-step"),
        ("checkpoint", "mid-checkpoint"),
        ("ack", "after result, before ack"),
    )
]

SCENARIOS: tuple[Scenario, ...] = (
    *_KILLS,
    Scenario("SIGSTOP child past its lease, SIGCONT", "mid-step", stopped("step"), concurrency=2),
    Scenario("SIGSTOP child past its lease, SIGCONT", "about to publish", stopped("publish"), concurrency=2),
    Scenario("broker restarted", "jobs queued", broker_restarted),
    Scenario("broker FLUSHALL", "jobs queued", flushed),
    Scenario("database locked for 13 s", "jobs running", locked),
    Scenario("disk full for artifacts", "jobs running", disk_full),
    Scenario("every message delivered twice", "jobs queued", delivered_twice),
    Scenario("clock jumps an hour ahead", "jobs running", clock_jumps(3600), environment={"PYTHONPATH": str(CLOCK)}),
    Scenario("clock jumps an hour back", "jobs running", clock_jumps(-3600), environment={"PYTHONPATH": str(CLOCK)}),
    Scenario("a job that kills every worker", "among others", poisoned),
)
