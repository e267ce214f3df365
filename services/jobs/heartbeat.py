"""The thread beside a running job: gives its signs of life, writes its news, and learns when it must stop."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from services.errors import Kind, Problem
from services.jobs import leases
from services.jobs.completion import document
from services.jobs.leases import Lease
from services.jobs.progress import Reporter
from services.jobs.records import State
from services.jobs.stop_signals import JobCancelled, JobInterrupted, LeaseLost
from services.settings import Settings
from services.storage.artifacts import ArtifactStore

log = logging.getLogger(__name__)

_TICK = 0.2
_NEWS_SECONDS = 0.5  # news is written at most so often, however fast a job steps
_STUBBORN_SECONDS = 12.0  # a job that has not stopped by then is ended with its process


class Heartbeat:
    """Beats for ``lease`` while the ``with`` block runs."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        artifacts: ArtifactStore,
        lease: Lease,
        reporter: Reporter,
        *,
        shutdown: Callable[[], bool],
        abandon: Callable[[int], None] = os._exit,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._artifacts = artifacts
        self._lease = lease
        self._reporter = reporter
        self._shutdown = shutdown
        self._abandon = abandon
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"heartbeat-{lease.job.id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        began = last = time.monotonic()
        limit = self._settings.job_time_limit
        while not self._over.wait(_TICK):
            now = time.monotonic()
            if self._shutdown():
                self._reporter.stop(JobInterrupted())

            if limit and now - began > limit and not self._reporter.stopped:
                self._time_is_up(limit)

            fresh = self._reporter.news.is_set() and now - last >= _NEWS_SECONDS
            if fresh or now - last >= self._settings.job_heartbeat:
                self._beat()
                last = time.monotonic()

            if self._reporter.ignored_for > _STUBBORN_SECONDS:
                self._give_up()

    def _beat(self) -> None:
        with self._reporter.writing:
            progress, events = self._reporter.take()
            told = [*events, ("progress", progress)] if progress is not None else events
            try:
                answer = leases.beat(self._engine, self._lease, progress, told)
            except SQLAlchemyError as error:  # the database is away or locked: the next beat tries again
                log.warning("beat failed", extra={"job": self._lease.job.id, "reason": str(error)[:300]})
                self._reporter.give_back(progress, events)
                return
        if not answer.held:
            self._reporter.stop(LeaseLost())
        elif answer.cancel_requested:
            self._reporter.stop(JobCancelled())

    def _time_is_up(self, limit: float) -> None:
        problem = Problem(
            Kind.DEADLINE,
            "job-time-limit",
            "Job ran too long",
            f"The attempt was stopped after {limit:,.0f} seconds (job_time_limit).",
            remedy="Raise the limit, or split the job. A retry goes on from the last checkpoint.",
        )
        self._end("failed", problem)
        self._reporter.stop(LeaseLost())

    def _give_up(self) -> None:
        """The work ignores that it must stop: settle what becomes of the job, then end the process under it."""
        log.error("job does not stop; its process ends", extra={"job": self._lease.job.id})
        reason = self._reporter.reason
        try:
            if isinstance(reason, JobCancelled):
                self._end("cancelled", None)
            elif isinstance(reason, JobInterrupted):
                leases.hand_back(self._engine, self._lease)
        except SQLAlchemyError:
            log.exception("the end of a job could not be written; the reaper will find it")
        self._abandon(1)

    def _end(self, state: State, problem: Problem | None) -> None:
        try:
            error = document(problem) if problem else None
            leases.finish(self._artifacts, self._engine, self._lease, state, error=error)
        except LeaseLost:
            pass
