"""A real gateway process, and a thread that does its jobs: what clients of jobs are tested against."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from services.jobs.services import JobServices
from services.settings import Settings
from services.storage.database import reading
from services.storage.tables import jobs
from tests.support.jobs import run_job
from tests.support.server import serving


@dataclass(slots=True)
class JobsServer:
    """``url`` of the gateway; ``working`` set lets waiting jobs be done."""

    url: str
    services: JobServices
    working: threading.Event


@contextmanager
def jobs_server(folder: Path) -> Iterator[JobsServer]:
    """A gateway with the kinds of jobs that tests run, and one worker thread."""
    settings = Settings(data_dir=folder / "data", port=0, job_modules=("tests.support.job_kinds",), job_heartbeat=0.1)
    with serving(settings, folder) as server:
        services = JobServices.open(settings)
        working, over = threading.Event(), threading.Event()
        working.set()

        def work() -> None:
            while not over.is_set():
                if working.is_set():
                    with reading(services.engine) as connection:
                        waiting = list(connection.scalars(select(jobs.c.id).where(jobs.c.state == "queued")))
                    for job_id in waiting:
                        run_job(services, job_id, shutdown=over.is_set)
                time.sleep(0.02)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield JobsServer(server.url, services, working)
        finally:
            over.set()
            thread.join()
            services.close()
