"""Kinds and runs of jobs in the process of a test, as gateway and worker have them."""

from __future__ import annotations

from typing import Any

from services import job_kinds, job_runners
from services.jobs import runner
from services.jobs.kind import JobKind
from services.jobs.services import JobServices


def kinds(services: JobServices) -> dict[str, JobKind[Any]]:
    """What the gateway knows."""
    return job_kinds.registry(services.settings.job_modules)


def run_job(services: JobServices, job_id: str, **options: Any) -> runner.Outcome:
    """What a worker does with a job that it is told of."""
    return runner.run_job(services, job_runners.runnable(services.settings.job_modules), job_id, **options)
