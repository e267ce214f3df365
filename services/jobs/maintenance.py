"""The process that keeps the promise: tells workers of jobs, takes jobs from the dead, delivers webhooks, tidies up.

There is one with every server; several do no harm. It may die at any time, as all it knows is in the database.
"""

from __future__ import annotations

import logging
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import redis
from kombu.exceptions import KombuError
from sqlalchemy.exc import SQLAlchemyError

from services.datasets.opening import dataset_store
from services.errors import Problem
from services.jobs.celery_app import make_app
from services.jobs.dispatch import Dispatcher
from services.jobs.leases import holdings
from services.jobs.reaper import Reaper
from services.jobs.services import JobServices
from services.jobs.webhooks import Deliveries
from services.settings import Settings

log = logging.getLogger(__name__)

_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class _Duty:
    """Something to do every ``seconds``, in a thread of its own: none of them waits for another's trouble."""

    name: str
    seconds: float
    work: Callable[[], object]
    wait: bool = False
    """Not at once: every start of the process would do it."""


class Maintenance:
    """Does its duties until told to stop."""

    def __init__(self, services: JobServices) -> None:
        settings = services.settings
        self._services = services
        self._stop = threading.Event()
        self._broken: Exception | None = None
        dispatcher = Dispatcher(services.engine, make_app(settings), max_running=settings.max_jobs_running)
        reaper = Reaper(services.engine, lease=settings.job_lease, max_deaths=settings.job_deaths)
        deliveries = Deliveries(services.engine, settings)
        self._duties = [
            _Duty("dispatch", 0.2, dispatcher.dispatch),
            _Duty("reap", min(1.0, settings.job_lease / 4), reaper.sweep),
            _Duty("reconcile", 3.0, dispatcher.reconcile),
            _Duty("webhooks", 1.0, deliveries.deliver),
            _Duty("tidy", 600.0, self.tidy, wait=True),
            _Duty("sweep", 6 * 3600.0, services.artifacts.sweep, wait=True),
        ]

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        """Until :meth:`stop`. Trouble with the database or the broker is logged once and waited out.

        An error of any other kind ends the process, and whoever started it starts it anew.
        """
        threads = [threading.Thread(target=self._keep_to, args=(duty,), name=duty.name) for duty in self._duties]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._broken is not None:
            raise self._broken

    def tidy(self) -> None:
        """Remove what is older than it is kept, and the folders of attempts that are over."""
        settings, now = self._services.settings, time.time()
        while self._services.jobs.expire(now - settings.job_retention_days * _DAY) == 200:
            pass

        self._services.artifacts.expire(now - settings.artifact_retention_days * _DAY)
        services = self._services
        dataset_store(settings, services.engine, services.artifacts).tidy(settings.cache_dir / "datasets")
        folder = settings.scratch_dir / "jobs"
        # Listed before the database is asked: a folder is made after its claim, so one without a claim is done with.
        folders = list(folder.iterdir()) if folder.is_dir() else []
        held = {f"{holding.job_id}.{holding.fence}" for holding in holdings(self._services.engine)}
        for left in folders:
            if left.name not in held:
                shutil.rmtree(left, ignore_errors=True)

    def _keep_to(self, duty: _Duty) -> None:
        failing = False
        if duty.wait:
            self._stop.wait(duty.seconds)

        while not self._stop.is_set():
            pause = duty.seconds
            try:
                duty.work()
                if failing:
                    log.info("%s works again", duty.name, extra={"duty": duty.name})
                failing = False
            except (SQLAlchemyError, redis.RedisError, KombuError, OSError, Problem) as error:
                if not failing:
                    log.warning("%s must wait: %s", duty.name, error, extra={"duty": duty.name})
                failing, pause = True, max(duty.seconds, 1.0)
            except Exception as error:
                log.exception("%s failed", duty.name, extra={"duty": duty.name})
                self._broken = error
                self._stop.set()
            self._stop.wait(pause)


def serve(settings: Settings) -> int:
    """Keep until SIGTERM; the exit code."""
    services = JobServices.open(settings)
    maintenance = Maintenance(services)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: maintenance.stop())
    try:
        maintenance.run()
    finally:
        services.close()
    return 0
