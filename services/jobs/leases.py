"""Who may work on a job: claim, beat, checkpoint, finish, hand back, take away. Each is one transaction.

A claim raises the job's fence; every later write names the fence it was made under, so a worker that was taken for
dead and comes back can change nothing. A beat is a counter, not a time: whoever judges whether a worker lives
watches the counter with its own monotonic clock, and no clock that jumps can take a job away or keep it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, delete, func, select, update

from services.errors import Kind, Problem
from services.jobs.completion import document, end
from services.jobs.events import Name, append
from services.jobs.records import Job, State, job_of
from services.jobs.stop_signals import LeaseLost
from services.storage.artifacts import ArtifactStore
from services.storage.database import reading, writing
from services.storage.drafts import Draft
from services.storage.tables import artifacts, jobs

Events = Sequence[tuple[Name, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on ``job``, as long as its fence is ``fence``."""

    job: Job
    fence: int
    worker: str


@dataclass(frozen=True, slots=True)
class Beat:
    """What a worker learns by giving a sign of life."""

    held: bool
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class Holding:
    """A running job as a reaper sees it."""

    job_id: str
    fence: int
    beat: int
    worker: str


def claim(engine: Engine, job_id: str, worker: str) -> Lease | None:
    """Take a waiting job; ``None`` when it is not waiting, which a message delivered twice finds."""
    now = time.time()
    with writing(engine) as connection:
        row = connection.execute(
            update(jobs)
            .where(jobs.c.id == job_id, jobs.c.state == "queued")
            .values(
                state="running",
                fence=jobs.c.fence + 1,
                attempt=jobs.c.attempt + 1,
                beat=jobs.c.beat + 1,
                worker=worker,
                dispatched=True,
                started_at=func.coalesce(jobs.c.started_at, now),
                progress_at=now,
            )
            .returning(*jobs.c)
        ).one_or_none()
        if row is None:
            return None

        append(connection, job_id, [("state", {"state": "running", "attempt": row.attempt})])
    return Lease(job_of(row._mapping), row.fence, worker)


def beat(engine: Engine, lease: Lease, progress: Mapping[str, Any] | None = None, events: Events = ()) -> Beat:
    """Give a sign of life, and with it the progress and events since the last one."""
    with writing(engine) as connection:
        row = connection.execute(
            update(jobs).where(*_held(lease)).values(_alive(progress)).returning(jobs.c.cancel_requested)
        ).one_or_none()
        if row is None:
            return Beat(held=False, cancel_requested=False)

        append(connection, lease.job.id, events)
    return Beat(held=True, cancel_requested=bool(row.cancel_requested))


def held(engine: Engine, lease: Lease) -> bool:
    """Return whether the lease still counts, at this moment."""
    with reading(engine) as connection:
        return connection.execute(select(jobs.c.id).where(*_held(lease))).first() is not None


def checkpoint(
    engine: Engine,
    store: ArtifactStore,
    lease: Lease,
    state: Draft,
    *,
    segments: Mapping[str, Draft],
    progress: Mapping[str, Any],
) -> None:
    """Commit how far the job is: ``state``, and the ``segments`` of its growing outputs, all or nothing.

    Lost workers are forgotten, unless nothing is new since the last checkpoint. Raises :class:`LeaseLost`.
    """
    owner, job_id = lease.job.owner, lease.job.id

    def transaction(connection: Connection) -> list[str]:
        same = artifacts.c.job_id == job_id, artifacts.c.role == "checkpoint"
        before = list(connection.scalars(select(artifacts.c.sha256).where(*same)))
        values = _alive(progress)
        if segments or state.finish() not in before:
            values["deaths"] = 0
        _change(connection, lease, values)

        for name, draft in segments.items():
            store.record(connection, draft, owner, name, "application/octet-stream", "segment", job_id)

        kept = store.record(connection, state, owner, "state", "application/octet-stream", "checkpoint", job_id)
        _change(connection, lease, {"checkpoint": kept.id})
        return before

    store.collect(store.publish([state, *segments.values()], transaction))


def attach(store: ArtifactStore, lease: Lease, draft: Draft, *, name: str, media_type: str) -> None:
    """Add an output to the job, in place of one of that name. Raises :class:`LeaseLost`."""

    def transaction(connection: Connection) -> list[str]:
        _change(connection, lease, _alive())
        same = artifacts.c.job_id == lease.job.id, artifacts.c.role == "output", artifacts.c.name == name
        before = list(connection.scalars(select(artifacts.c.sha256).where(*same)))
        store.record(connection, draft, lease.job.owner, name, media_type, "output", lease.job.id)
        return before

    store.collect(store.publish([draft], transaction))


def finish(
    store: ArtifactStore,
    engine: Engine,
    lease: Lease,
    state: State,
    *,
    result: Mapping[str, Any] | None = None,
    error: Mapping[str, Any] | None = None,
    outputs: Mapping[str, tuple[str, Draft]] | None = None,
    progress: Mapping[str, Any] | None = None,
    events: Events = (),
) -> None:
    """End the job and publish ``outputs`` (media type and draft by name) with it, all or nothing.

    Safe to repeat after a commit whose answer got lost. Raises :class:`LeaseLost`.
    """
    job, made = lease.job, outputs or {}

    def transaction(connection: Connection) -> list[str]:
        if not connection.execute(update(jobs).where(*_held(lease)).values(_alive(progress))).rowcount:
            ended = jobs.c.id == job.id, jobs.c.fence == lease.fence, jobs.c.state == state
            if connection.execute(select(jobs.c.id).where(*ended)).first():
                return []
            raise LeaseLost

        append(connection, job.id, events)
        for name, (media_type, draft) in made.items():
            store.record(connection, draft, job.owner, name, media_type, "output", job.id)

        used: list[str] = []
        if state == "succeeded":
            # A failed or cancelled job keeps its checkpoint and segments, for a retry.
            spent = artifacts.c.job_id == job.id, artifacts.c.role.in_(("checkpoint", "segment"))
            used = list(connection.scalars(select(artifacts.c.sha256).where(*spent)))
            connection.execute(delete(artifacts).where(*spent))

        end(connection, _held(lease), state, result=result, error=error)
        return used

    store.collect(store.publish([draft for _, draft in made.values()], transaction))


def hand_back(engine: Engine, lease: Lease, events: Events = ()) -> bool:
    """Return the job to the queue unharmed: the worker is going, the job is not to blame."""
    with writing(engine) as connection:
        if not connection.execute(update(jobs).where(*_held(lease)).values(_waiting())).rowcount:
            return False
        append(connection, lease.job.id, [*events, ("state", {"state": "queued", "reason": "worker shut down"})])
    return True


def take_away(engine: Engine, holding: Holding, *, max_deaths: int, reason: str) -> State | None:
    """Take a running job from a worker that is gone, unless it gave a sign of life meanwhile (``None`` then).

    The job waits again; or it is cancelled, if that was asked; or fails, if it lost too many workers in a row.
    """
    same = (
        jobs.c.id == holding.job_id,
        jobs.c.state == "running",
        jobs.c.fence == holding.fence,
        jobs.c.beat == holding.beat,
    )
    with writing(engine) as connection:
        row = connection.execute(
            update(jobs).where(*same).values(deaths=jobs.c.deaths + 1).returning(jobs.c.deaths, jobs.c.cancel_requested)
        ).one_or_none()
        if row is None:
            return None

        if row.cancel_requested:
            end(connection, same, "cancelled")
            return "cancelled"
        if row.deaths >= max_deaths:
            end(connection, same, "failed", error=_poisoned(row.deaths, reason))
            return "failed"

        connection.execute(update(jobs).where(*same).values(_waiting()))
        told = {"state": "queued", "reason": f"worker lost: {reason}", "deaths": row.deaths}
        append(connection, holding.job_id, [("state", told)])
    return "queued"


def holdings(engine: Engine) -> list[Holding]:
    """List every running job with its holder."""
    columns = jobs.c.id, jobs.c.fence, jobs.c.beat, jobs.c.worker
    with reading(engine) as connection:
        rows = connection.execute(select(*columns).where(jobs.c.state == "running")).all()
    return [Holding(row.id, row.fence, row.beat, row.worker or "") for row in rows]


def _held(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    return jobs.c.id == lease.job.id, jobs.c.fence == lease.fence, jobs.c.state == "running"


def _change(connection: Connection, lease: Lease, values: Mapping[str, Any]) -> None:
    """Set columns of the job while the lease holds. Raises :class:`LeaseLost`."""
    if not connection.execute(update(jobs).where(*_held(lease)).values(values)).rowcount:
        raise LeaseLost


def _alive(progress: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Give the columns that a sign of life changes, with the progress where it is told."""
    told = {} if progress is None else {"progress": dict(progress), "progress_at": time.time()}
    return {"beat": jobs.c.beat + 1, **told}


def _waiting() -> dict[str, Any]:
    return {"state": "queued", "worker": None, "dispatched": False, "queued_at": time.time(), "beat": jobs.c.beat + 1}


def _poisoned(deaths: int, reason: str) -> dict[str, Any]:
    return document(
        Problem(
            Kind.INTERNAL,
            "job-worker-lost",
            "Job lost its worker too often",
            f"{deaths} workers in a row were lost without a new checkpoint; the last one: {reason}.",
            remedy="Look for what kills the worker (memory, most often), then POST /v1/jobs/{id}/retry.",
        )
    )
