"""A worker: one Celery process for one queue, with a child for each job that it may run at once.

The parent only carries messages and starts children, and has no thread but the first; models and databases are opened
in a child, after the fork.
"""

from __future__ import annotations

import logging
import mmap
import os
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from celery import signals
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning

from services.jobs.celery_app import TASK, make_app
from services.jobs.deafness import Deafness
from services.jobs.kind import JobKind
from services.jobs.runner import run_job
from services.jobs.services import JobServices
from services.settings import Settings

log = logging.getLogger(__name__)


class Worker:
    """Runs the jobs of one queue until told to stop; jobs that run then are handed back to the queue.

    ``kinds`` is asked in a child, so that the parent loads nothing of what jobs need.
    """

    def __init__(
        self, settings: Settings, queue: str, *, concurrency: int, kinds: Callable[[], Mapping[str, JobKind[Any]]]
    ) -> None:
        self._settings = settings
        self._kinds = kinds
        self._queue = queue
        self._concurrency = concurrency
        self._stopping = mmap.mmap(-1, 1)  # shared with the children, who look at it several times a second
        self._opened: tuple[JobServices, Mapping[str, JobKind[Any]]] | None = None  # in a child
        self._app = make_app(settings)
        self._app.task(self._run, name=TASK)
        self._app.steps["consumer"].add(Deafness)

    def run(self) -> int:
        """Work; the exit code."""
        if self._settings.log_level == "info":
            logging.getLogger("celery").setLevel("WARNING")  # the runner tells of every job itself

        signals.setup_logging.connect(_logging_is_set_up, weak=False)
        signals.worker_process_init.connect(self._child_begins, weak=False)
        signals.worker_shutting_down.connect(self._told_to_stop, weak=False)
        # The broker carries JSON job ids only, so Celery's warning about running as root is about nothing here.
        warnings.simplefilter("ignore", SecurityWarning)
        warnings.simplefilter("ignore", CPendingDeprecationWarning)  # of a setting that is as it should be
        worker = self._app.Worker(
            hostname=f"{self._queue}@%h",
            queues=[self._queue],
            pool="prefork",
            concurrency=self._concurrency,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=not self._settings.celery_events,
            optimization="fair",
            loglevel=None,
            quiet=True,
        )
        worker.start()
        return int(worker.exitcode or 0)

    def _run(self, job_id: str) -> None:
        if self._opened is None:
            self._opened = JobServices.open(self._settings), self._kinds()
        run_job(*self._opened, job_id, shutdown=lambda: self._stopping[0] != 0)

    def _child_begins(self, **_: Any) -> None:
        parent = os.getppid()
        threading.Thread(target=_end_with, args=(parent,), name="orphan", daemon=True).start()

    def _told_to_stop(self, **_: Any) -> None:
        self._stopping[0] = 1


def _logging_is_set_up(**_: Any) -> None:
    """A receiver of Celery's signal keeps it from setting up logging in its own way, in parent and children."""


def _end_with(parent: int) -> None:
    """A child whose parent died can report to nobody; its job is taken over at once when it is gone too."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
