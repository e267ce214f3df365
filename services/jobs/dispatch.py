"""Tells the broker of waiting jobs: the outbox that the job table is.

A job is told of once, and again when the broker turns out to have lost it. Being told twice does no harm.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import orjson
import redis
from celery import Celery
from sqlalchemy import Engine, func, select, update

from services.jobs.broker import connection
from services.jobs.celery_app import TASK, broker_priority, queue_keys
from services.jobs.queues import QUEUES
from services.storage.database import reading, writing
from services.storage.tables import jobs

log = logging.getLogger(__name__)

_AT_ONCE = 200
_PRECISE_SECONDS = 60.0
_PAGE = 1_000


class Dispatcher:
    """Call :meth:`dispatch` several times a second, :meth:`reconcile` every few seconds."""

    def __init__(self, engine: Engine, app: Celery, *, max_running: int) -> None:
        self._engine = engine
        self._app = app
        self._max_running = max_running
        self._missing: set[str] = set()
        self._precise_at = time.monotonic()

    def dispatch(self) -> int:
        """Tell of jobs that wait and were not told of, the most urgent first; returns how many.

        Raises ``OSError`` or the broker's own error when it is away; nothing is lost by that.
        """
        chosen = self._choose()
        if not chosen:
            return 0

        sent: list[tuple[str, int]] = []
        try:
            self._send(chosen, sent)
        finally:
            # After the send: dying between the two sends a message twice, the other way round would lose it. The
            # fence keeps this from hiding a job that was claimed and given back meanwhile.
            with writing(self._engine) as connection_:
                for job_id, fence in sent:
                    same = jobs.c.id == job_id, jobs.c.state == "queued", jobs.c.fence == fence
                    connection_.execute(update(jobs).where(*same).values(dispatched=True))

        return len(sent)

    def _send(self, chosen: list[tuple[str, int, str, int]], sent: list[tuple[str, int]]) -> None:
        with self._app.producer_pool.acquire(block=True, timeout=5) as producer:
            for job_id, fence, queue, priority in chosen:
                self._app.send_task(
                    TASK,
                    args=[job_id],
                    task_id=f"{job_id}.{fence}",
                    queue=queue,  # an empty exchange and a routing key alone would mean the default queue
                    declare=(),
                    priority=broker_priority(priority),
                    producer=producer,
                    retry=False,
                )
                sent.append((job_id, fence))

    def reconcile(self) -> int:
        """Find jobs that the broker should know and does not, as after FLUSHALL; returns how many are told of again.

        Counting is enough to notice; only then, and once a minute, the broker's lists are read.
        """
        found = 0
        with connection(self._app.conf.broker_url) as client:
            due = time.monotonic() - self._precise_at > _PRECISE_SECONDS
            with reading(self._engine) as connection_:
                told = jobs.c.state == "queued", jobs.c.dispatched.is_(True)
                rows = connection_.execute(select(jobs.c.queue, func.count()).where(*told).group_by(jobs.c.queue))
                expected: dict[str, int] = {row[0]: row[1] for row in rows}
            missing: set[str] = set()
            for queue in QUEUES:
                held = sum(int(client.llen(key)) for key in queue_keys(queue))
                if held < expected.get(queue, 0) or (due and expected.get(queue, 0)):
                    missing |= self._unknown(client, queue)
            if due:
                self._precise_at = time.monotonic()

        # Twice in a row: a message may be on its way, or with a worker that is about to claim the job.
        lost, self._missing = missing & self._missing, missing
        for job_id in lost:
            same = jobs.c.id == job_id, jobs.c.state == "queued"
            with writing(self._engine) as connection_:
                found += connection_.execute(update(jobs).where(*same).values(dispatched=False)).rowcount

        if found:
            log.warning("the broker had lost %d jobs; they are told of again", found, extra={"jobs": found})
            self._missing -= lost

        return found

    def _choose(self) -> list[tuple[str, int, str, int]]:
        columns = jobs.c.id, jobs.c.fence, jobs.c.queue, jobs.c.priority, jobs.c.owner
        waiting = jobs.c.state == "queued", jobs.c.dispatched.is_(False)
        order = jobs.c.priority.desc(), jobs.c.id
        with reading(self._engine) as connection_:
            if not self._max_running:
                rows = connection_.execute(select(*columns).where(*waiting).order_by(*order).limit(_AT_ONCE)).all()
                return [(row.id, row.fence, row.queue, row.priority) for row in rows]
            # What an owner has running or in the broker, against what it may have running.
            busy = (jobs.c.state == "running") | ((jobs.c.state == "queued") & jobs.c.dispatched.is_(True))
            counted = connection_.execute(select(jobs.c.owner, func.count()).where(busy).group_by(jobs.c.owner))
            room = {row[0]: self._max_running - row[1] for row in counted}
            full = [owner for owner, free in room.items() if free <= 0]
            rows = connection_.execute(
                select(*columns).where(*waiting, jobs.c.owner.not_in(full)).order_by(*order).limit(_AT_ONCE)
            ).all()

        chosen: list[tuple[str, int, str, int]] = []
        for row in rows:
            free = room.get(row.owner, self._max_running)
            if free > 0:
                room[row.owner] = free - 1
                chosen.append((row.id, row.fence, row.queue, row.priority))

        return chosen

    def _unknown(self, client: redis.Redis, queue: str) -> set[str]:
        told = jobs.c.queue == queue, jobs.c.state == "queued", jobs.c.dispatched.is_(True)
        with reading(self._engine) as connection_:
            waiting = set(connection_.scalars(select(jobs.c.id).where(*told)))
        for key in queue_keys(queue):
            waiting.difference_update(_job_ids(client, key))
        return waiting


def _job_ids(client: redis.Redis, key: str) -> Iterator[str]:
    """The jobs that the messages of one list name."""
    start = 0
    while page := client.lrange(key, start, start + _PAGE - 1):
        for message in page:
            try:
                yield str(orjson.loads(message)["headers"]["id"]).partition(".")[0]
            except (orjson.JSONDecodeError, KeyError, TypeError):
                continue  # somebody else's: a broker may be shared
        start += _PAGE
