"""The faults of docs/reliability.md: what is done to the platform, and what must be true afterwards."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import text

from services.jobs import broker, events
from services.jobs.celery_app import TASK, make_app
from services.jobs.leases import Holding, holdings
from services.storage.database import connect
from tests.faults import failpoints
from tests.faults.running import ROLES, UP_TO, Platform
from tests.support.serving import alive, eventually

CLOCK = Path(__file__).parent / "clock"
WORKER_RECOVERY = 15.0
"""Seconds within which a killed worker's job is taken over and others go on, with default settings."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the jobs. ``recovery`` is that of :func:`run`, ``seconds`` the whole run."""

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
class Harm:
    """A fault that was done ``at`` a monotonic time, after ``ended`` jobs, under the attempt ``victim``, if any."""

    at: float
    ended: int
    victim: Holding | None = None

    @classmethod
    def now(cls, platform: Platform, victim: Holding | None = None) -> Harm:
        return cls(time.monotonic(), platform.states()["succeeded"], victim)


Strike = Callable[[Platform], Harm | None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """``strike`` does the harm while jobs wait and run, and returns when it is done; what it returns says since when
    recovery counts, which is its end otherwise. ``within`` is the longest recovery that is right, in seconds.
    """

    fault: str
    when: str
    strike: Strike
    concurrency: int = 1
    environment: dict[str, str] = field(default_factory=dict)
    within: float | None = None

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
    """Submit half, strike, submit the rest, wait, verify.

    Returns the recovery: seconds from the fault until another job has ended, and the attempt that the fault hit, if
    it hit one, is over: its job has ended, or was taken from the dead.
    """
    ids = platform.submit(jobs // 2)
    platform.wait_for(lambda: platform.states()["succeeded"] > 0)
    harm = scenario.strike(platform) or Harm.now(platform)

    def recovered() -> bool:
        over = harm.victim is None or not _runs(platform, harm.victim)
        return over and platform.states()["succeeded"] > harm.ended

    def recovery() -> float:
        eventually(recovered, 90)
        return time.monotonic() - harm.at

    with ThreadPoolExecutor(1) as beside:
        seconds = beside.submit(recovery)
        ids += platform.submit(jobs - len(ids))
    platform.wait(240)
    platform.verify(ids)
    took = seconds.result()
    limit = scenario.within
    assert limit is None or took <= limit, f"recovery took {took:.1f} s, {limit:g} are allowed"
    return took


def killed(role: str, place: str) -> Strike:
    """Kill a process while a job stands at ``place``; ``idle``: while none runs."""

    def strike(platform: Platform) -> Harm:
        if place == "idle":
            platform.wait()
            harm = Harm.now(platform)
            platform.kill(role)
            return harm
        failpoints.arm(platform.data, place)
        platform.wait_for(lambda: failpoints.hit(platform.data) is not None)
        pid = failpoints.hit(platform.data)
        # None after the result: the job has ended already.
        harm = Harm.now(platform, next((h for h in holdings(platform.services.engine) if _works(h, pid)), None))
        platform.kill(role)
        failpoints.go(platform.data)
        return harm

    return strike


def stopped(place: str) -> Strike:
    """Stop a worker's child at ``place`` until its job was done by another, then let it go on."""

    def strike(platform: Platform) -> None:
        failpoints.arm(platform.data, place)
        platform.wait_for(lambda: failpoints.hit(platform.data) is not None)
        sleeper = failpoints.hit(platform.data)
        assert sleeper is not None
        [job] = [h.job_id for h in holdings(platform.services.engine) if _works(h, sleeper)]
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
        assert client.llen("default\x06\x169") > 0, "no job waited in the broker: there were too few"
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
        app.send_task(TASK, args=[job.id], queue="default", declare=(), priority=9)
    app.close()


def clock_jumps(seconds: float) -> Strike:
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


def _works(holding: Holding, pid: int | None) -> bool:
    return f":{pid}:" in holding.worker


def _runs(platform: Platform, attempt: Holding) -> bool:
    job = platform.services.jobs.get("anonymous", attempt.job_id)
    return job.state == "running" and job.fence == attempt.fence


def _job_logs(platform: Platform) -> Iterator[str]:
    for job in platform.services.jobs.list("anonymous", states=["running"]):
        for event in events.after(platform.services.engine, job.id, 0):
            if event.event == "log":
                yield str(event.data["message"])


_KILLS = [
    Scenario(
        f"kill -9 {role}", when, killed(role, place), within=WORKER_RECOVERY if role in ("child", "worker") else None
    )
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
