"""Beside every job a heartbeat runs: it writes the news, and ends what does not stop."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from services.jobs import events, heartbeat, leases
from services.jobs.context import JobContext
from services.jobs.heartbeat import Heartbeat
from services.jobs.kind import JobKind
from services.jobs.progress import Reporter
from services.jobs.records import Order
from services.jobs.runner import run_job
from services.jobs.services import JobServices
from services.jobs.stop_signals import JobCancelled, JobInterrupted, LeaseLost
from tests.services.jobs.test_runner import OWNER, submit


class Nothing(BaseModel):
    """The parameters of a job that has none."""


class Held:
    """A claimed job with a heartbeat whose process is not really ended."""

    def __init__(self, services: JobServices, **settings: float) -> None:
        self.services = services
        job = submit(services, "count")
        lease = leases.claim(services.engine, job.id, "w")
        assert lease is not None
        self.lease = lease
        self.reporter = Reporter({})
        self.ended = threading.Event()
        self.stop = False
        self.heartbeat = Heartbeat(
            services.settings.model_copy(update=settings),
            services.engine,
            services.artifacts,
            lease,
            self.reporter,
            shutdown=lambda: self.stop,
            abandon=lambda code: self.ended.set(),
        )

    @property
    def state(self) -> str:
        return self.services.jobs.get(OWNER, self.lease.job.id).state


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "_STUBBORN_SECONDS", 0.5)
    monkeypatch.setattr(heartbeat, "_TICK", 0.02)


def wait(check: object) -> None:
    end = time.monotonic() + 10
    while not check():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


def test_news_is_written_while_the_job_works(services: JobServices) -> None:
    held = Held(services)
    with held.heartbeat:
        for n in range(50):
            held.reporter.step(n, 50, f"piece {n}", {"loss": 1 / (n + 1)} if n % 10 == 0 else None)
        held.reporter.log("half way", "info")
        wait(lambda: services.jobs.get(OWNER, held.lease.job.id).progress.get("step") == 49)
    told = events.after(services.engine, held.lease.job.id, 2)
    assert [event.event for event in told].count("metric") == 5
    assert [event.event for event in told].count("progress") <= 2  # only the latest of many
    assert next(event.data for event in told if event.event == "log") == {"level": "info", "message": "half way"}


def test_the_end_of_a_job_does_not_overtake_its_last_words(
    services: JobServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    beating, beat = threading.Event(), leases.beat

    def slow(*arguments: Any) -> leases.Beat:
        if arguments[3]:
            beating.set()
            time.sleep(0.5)
        return beat(*arguments)

    def speak(ctx: JobContext[Nothing]) -> dict[str, object]:
        ctx.log("last words")
        assert beating.wait(10)  # the heartbeat has taken them, and has not written them
        return {}

    monkeypatch.setattr(leases, "beat", slow)
    kinds = {"speak": JobKind("speak", "default", Nothing, lambda: speak)}
    job, _ = services.jobs.submit(OWNER, Order("speak", "default", {}), max_queued=10)
    assert run_job(services, kinds, job.id) == "succeeded"
    told = [event.data.get("message", event.data.get("state")) for event in events.after(services.engine, job.id, 0)]
    assert told == ["queued", "running", "last words", "succeeded"]


def test_a_job_that_logs_without_end_loses_lines_not_memory(services: JobServices) -> None:
    reporter = Reporter({})
    for n in range(5_000):
        reporter.log(str(n), "info")
    _, told = reporter.take()
    assert len(told) == 2_001
    assert told[-1][1]["message"].startswith("3000 lines were dropped")


@pytest.mark.parametrize(("how", "reason", "state"), [
    ("cancel", JobCancelled, "cancelled"),
    ("shutdown", JobInterrupted, "queued"),
    ("taken", LeaseLost, "queued"),
    ("time", LeaseLost, "failed"),
])  # fmt: skip
def test_a_job_that_does_not_stop_is_settled_and_its_process_ended(
    services: JobServices, how: str, reason: type[BaseException], state: str
) -> None:
    held = Held(services, **({"job_time_limit": 0.1} if how == "time" else {}))
    with held.heartbeat:
        if how == "cancel":
            services.jobs.cancel(OWNER, held.lease.job.id)
        elif how == "shutdown":
            held.stop = True
        elif how == "taken":
            while (
                leases.take_away(services.engine, leases.holdings(services.engine)[0], max_deaths=3, reason="test")
                is None
            ):
                pass
        wait(lambda: held.reporter.stopped)
        with pytest.raises(reason):
            held.reporter.raise_if_stopped()
        wait(held.ended.is_set)
    assert held.state == state
    if how == "time":
        error = services.jobs.get(OWNER, held.lease.job.id).error
        assert error is not None and error["code"] == "job-time-limit"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # a PostgreSQL that is away is tested elsewhere
def test_beats_go_on_after_the_database_was_locked(services: JobServices, tmp_path: Path) -> None:
    held = Held(services)
    holder = sqlite3.connect(tmp_path / "sightline.db", isolation_level=None)
    with held.heartbeat:
        held.reporter.step(1, 2, None, {"loss": 0.5})
        holder.execute("BEGIN EXCLUSIVE")
        held.reporter.log("while it was locked", "info")
        time.sleep(1)
        holder.execute("ROLLBACK")
        holder.close()
        before = leases.holdings(services.engine)[0].beat
        wait(lambda: leases.holdings(services.engine)[0].beat > before)
        wait(lambda: any(e.event == "log" for e in events.after(services.engine, held.lease.job.id, 0)))
    assert held.state == "running"
