"""What happened to a job, in order, numbered without gaps: written with the change it tells of, read by watchers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Engine, delete, insert, select, update

from services.storage.database import reading
from services.storage.tables import job_events, jobs

Name = Literal["progress", "state", "metric", "log"]
_KEPT = 5_000  # progress and log events kept of one job, at least; states and metrics are few and all stay


@dataclass(frozen=True, slots=True)
class Event:
    """One event; ``seq`` counts from 1 within its job, ``at`` in Unix seconds."""

    job_id: str
    seq: int
    event: Name
    data: Mapping[str, Any]
    at: float


@dataclass(frozen=True, slots=True)
class Head:
    """Where a job's stream stands: its last number, and whether more can come."""

    state: str
    seq: int


def begin(connection: Connection, job_id: str, state: Mapping[str, Any], at: float) -> None:
    """The first event of a job whose row was just written with ``event_seq`` 1."""
    connection.execute(insert(job_events).values(job_id=job_id, seq=1, event="state", data=dict(state), at=at))


def append(connection: Connection, job_id: str, events: Sequence[tuple[Name, Mapping[str, Any]]]) -> None:
    """Add events inside a transaction. The job's row is locked by the numbering, so order is order of commit."""
    if not events:
        return

    last = connection.scalar(
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(event_seq=jobs.c.event_seq + len(events))
        .returning(jobs.c.event_seq)
    )
    if last is None:
        return

    first, now = last - len(events) + 1, time.time()
    connection.execute(
        insert(job_events),
        [
            {"job_id": job_id, "seq": first + n, "event": event, "data": dict(data), "at": now}
            for n, (event, data) in enumerate(events)
        ],
    )
    if first // 1000 != (last + 1) // 1000:
        connection.execute(
            delete(job_events).where(
                job_events.c.job_id == job_id,
                job_events.c.seq <= last - _KEPT,
                job_events.c.event.in_(("progress", "log")),
            )
        )


def after(engine: Engine, job_id: str, seq: int, limit: int = 500) -> list[Event]:
    """The events of a job that follow number ``seq``, oldest first."""
    query = select(job_events).where(job_events.c.job_id == job_id, job_events.c.seq > seq)
    with reading(engine) as connection:
        rows = connection.execute(query.order_by(job_events.c.seq).limit(limit)).all()
    return [Event(**row._mapping) for row in rows]


def heads(engine: Engine, job_ids: Sequence[str]) -> dict[str, Head]:
    """Return where the streams of several jobs stand; a job that is gone is not in the answer."""
    with reading(engine) as connection:
        rows = connection.execute(select(jobs.c.id, jobs.c.state, jobs.c.event_seq).where(jobs.c.id.in_(job_ids)))
        return {row.id: Head(row.state, row.event_seq) for row in rows}
