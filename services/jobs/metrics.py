"""The metrics of jobs, counted in the database when somebody asks: right whichever process answers."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from services.jobs.queues import QUEUES
from services.storage.database import reading
from services.storage.tables import job_totals, jobs, webhook_deliveries


class JobMetrics(Collector):
    """A Prometheus collector over the job tables. Without the database it says so in one metric and tells no other."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not ask the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        families: list[Metric] = []
        try:
            with reading(self._engine) as connection:
                families += [*_jobs(connection), *_queues(connection), *_ended(connection), *_webhooks(connection)]
        except SQLAlchemyError:
            families.clear()
        yield GaugeMetricFamily(
            "sightline_job_database_up", "1 when the metrics of jobs could be read", value=float(bool(families))
        )
        yield from families


def _jobs(connection: Connection) -> Iterator[Metric]:
    kept = GaugeMetricFamily("sightline_jobs", "Jobs that are kept", labels=["kind", "state"])
    rows = connection.execute(select(jobs.c.kind, jobs.c.state, func.count()).group_by(jobs.c.kind, jobs.c.state))
    for kind, state, number in rows:
        kept.add_metric([kind, state], number)

    yield kept
    age = GaugeMetricFamily(
        "sightline_job_progress_age_seconds",
        "Since the running job that has been silent the longest reported progress",
        labels=["kind"],
    )
    silent = select(jobs.c.kind, func.min(jobs.c.progress_at)).where(jobs.c.state == "running").group_by(jobs.c.kind)
    for kind, oldest in connection.execute(silent):
        age.add_metric([kind], max(0.0, time.time() - oldest))

    yield age


def _queues(connection: Connection) -> Iterator[Metric]:
    length = GaugeMetricFamily("sightline_job_queue_length", "Jobs that wait", labels=["queue"])
    running = GaugeMetricFamily("sightline_job_queue_running", "Jobs that workers have", labels=["queue"])
    oldest = GaugeMetricFamily(
        "sightline_job_queue_oldest_seconds", "How long the job that came first has waited", labels=["queue"]
    )
    waiting = (
        select(jobs.c.queue, func.count(), func.min(jobs.c.queued_at))
        .where(jobs.c.state == "queued")
        .group_by(jobs.c.queue)
    )
    found = {row[0]: (row[1], row[2]) for row in connection.execute(waiting)}
    had = select(jobs.c.queue, func.count()).where(jobs.c.state == "running").group_by(jobs.c.queue)
    taken: dict[str, int] = {row[0]: row[1] for row in connection.execute(had)}
    for queue in QUEUES:
        number, since = found.get(queue, (0, None))
        length.add_metric([queue], number)
        running.add_metric([queue], taken.get(queue, 0))
        oldest.add_metric([queue], max(0.0, time.time() - since) if since is not None else 0.0)

    yield length
    yield running
    yield oldest


def _ended(connection: Connection) -> Iterator[Metric]:
    ended = CounterMetricFamily("sightline_jobs_ended", "Jobs that ended, ever", labels=["kind", "state"])
    wait = SummaryMetricFamily(
        "sightline_job_wait_seconds", "From submission to first start, of jobs that ended", labels=["kind", "state"]
    )
    run = SummaryMetricFamily(
        "sightline_job_run_seconds", "From first start to end, of jobs that ended", labels=["kind", "state"]
    )
    for row in connection.execute(select(job_totals)):
        ended.add_metric([row.kind, row.state], row.jobs)
        wait.add_metric([row.kind, row.state], row.jobs, row.wait_seconds)
        run.add_metric([row.kind, row.state], row.jobs, row.run_seconds)

    yield ended
    yield wait
    yield run


def _webhooks(connection: Connection) -> Iterator[Metric]:
    kept = GaugeMetricFamily("sightline_webhook_deliveries", "Webhook deliveries that are kept", labels=["state"])
    states = webhook_deliveries.c.state
    for state, number in connection.execute(select(states, func.count()).group_by(states)):
        kept.add_metric([state], number)
    yield kept
