"""The job record: what a key asked for, how far it is, how it ended. The row is the truth; messages are hints."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import orjson
from sqlalchemy import ColumnElement, Connection, Engine, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from services.errors import Kind, Problem
from services.jobs.completion import end
from services.jobs.events import append, begin
from services.storage.artifacts import Artifact, ArtifactStore, artifact_of
from services.storage.database import in_turn, reading, writing
from services.storage.ids import is_id, new_id
from services.storage.tables import artifacts, jobs

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
STATES: tuple[State, ...] = get_args(State)
FINAL: tuple[State, ...] = ("succeeded", "failed", "cancelled")

Document = Mapping[str, Any]
"""A JSON object."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stood when it was read. Times in Unix seconds; ``parameters`` is ``None`` in lists."""

    id: str
    kind: str
    queue: str
    owner: str
    state: State
    priority: int
    parameters: Document | None
    attempt: int
    fence: int
    deaths: int
    checkpoint: str | None
    cancel_requested: bool
    progress: Document
    result: Document | None
    error: Document | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where to tell of the end of a job; ``secret`` signs what is sent."""

    url: str
    secret: str


@dataclass(frozen=True, slots=True)
class Order:
    """What a key asks for. ``parameters`` are checked already; ``priority`` 0 to 9, the larger first.

    ``traceparent`` names the trace of the request that asks, for the job to go on with.
    """

    kind: str
    queue: str
    parameters: Document
    priority: int = 0
    webhook: Webhook | None = None
    idempotency_key: str | None = None
    traceparent: str | None = None

    def fingerprint(self) -> str:
        """Hash the order, the same for the same order: a key that stands for one order may not be used for another."""
        webhook = [self.webhook.url, self.webhook.secret] if self.webhook else None
        whole = [self.kind, self.parameters, self.priority, webhook]
        return hashlib.sha256(orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)).hexdigest()


_LISTED = tuple(jobs.c[field.name] for field in fields(Job) if field.name != "parameters")
_WHOLE = (*_LISTED, jobs.c.parameters)


class JobStore:
    """The jobs as their owners see them. Methods block for one short transaction."""

    def __init__(self, engine: Engine, store: ArtifactStore) -> None:
        self._engine = engine
        self._artifacts = store

    def submit(self, owner: str, order: Order, *, max_queued: int) -> tuple[Job, bool]:
        """Accept an order: the job, and whether it is new. It is on the disk when this returns.

        Raises ``idempotency-conflict`` and ``too-many-jobs``.
        """
        if (job := self.known(owner, order)) is not None:
            return job, False

        now = time.time()
        row = {
            "id": new_id("job"),
            "kind": order.kind,
            "queue": order.queue,
            "owner": owner,
            "state": "queued",
            "priority": order.priority,
            "parameters": dict(order.parameters),
            "fingerprint": order.fingerprint(),
            "idempotency_key": order.idempotency_key,
            **dict.fromkeys(("attempt", "fence", "beat", "deaths"), 0),
            "cancel_requested": False,
            "dispatched": False,
            "progress": {},
            "event_seq": 1,
            "webhook": {"url": order.webhook.url, "secret": order.webhook.secret} if order.webhook else None,
            "created_at": now,
            "queued_at": now,
            "traceparent": order.traceparent,
        }
        try:
            with writing(self._engine) as connection:
                _check_room(connection, owner, max_queued)
                connection.execute(insert(jobs).values(row))
                begin(connection, str(row["id"]), {"state": "queued", "attempt": 0}, now)
        except IntegrityError:
            # The same idempotency key was used between the look and the insert.
            if (job := self.known(owner, order)) is not None:
                return job, False
            raise

        return job_of(row), True

    def known(self, owner: str, order: Order) -> Job | None:
        """Find the job that the order's idempotency key stands for, if any. Raises ``idempotency-conflict``."""
        if order.idempotency_key is None:
            return None

        mine = jobs.c.owner == owner, jobs.c.idempotency_key == order.idempotency_key
        with reading(self._engine) as connection:
            row = connection.execute(select(*_WHOLE, jobs.c.fingerprint).where(*mine)).one_or_none()
        if row is None:
            return None

        if row.fingerprint != order.fingerprint():
            raise Problem(
                Kind.CONFLICT,
                "idempotency-conflict",
                "Idempotency key was used for another request",
                f"The key stands for the job {row.id}, whose body was different.",
                remedy="Use a new Idempotency-Key for a new job.",
            )
        return job_of(row._mapping)

    def get(self, owner: str, job_id: str) -> Job:
        """Read one of the owner's jobs. Raises ``job-not-found``, whether unknown or another's."""
        if is_id(job_id, "job"):
            mine = jobs.c.id == job_id, jobs.c.owner == owner
            with reading(self._engine) as connection:
                row = connection.execute(select(*_WHOLE).where(*mine)).one_or_none()
            if row is not None:
                return job_of(row._mapping)
        raise not_found(job_id)

    def list(
        self,
        owner: str,
        *,
        states: Sequence[str] = (),
        kinds: Sequence[str] = (),
        limit: int = 50,
        after: str | None = None,
    ) -> list[Job]:
        """List the owner's jobs, newest first, those before the id ``after``; without their parameters."""
        query = select(*_LISTED).where(jobs.c.owner == owner)
        if states:
            query = query.where(jobs.c.state.in_(states))
        if kinds:
            query = query.where(jobs.c.kind.in_(kinds))
        if after is not None:
            query = query.where(jobs.c.id < after)

        with reading(self._engine) as connection:
            return [job_of(row._mapping) for row in connection.execute(query.order_by(jobs.c.id.desc()).limit(limit))]

    def outputs(self, job_ids: Sequence[str]) -> dict[str, Sequence[Artifact]]:
        """List what each of several jobs made, by job."""
        found: dict[str, list[Artifact]] = {job_id: [] for job_id in job_ids}
        query = select(artifacts).where(artifacts.c.job_id.in_(job_ids), artifacts.c.role == "output")
        with reading(self._engine) as connection:
            for row in connection.execute(query.order_by(artifacts.c.name)):
                found[row.job_id].append(artifact_of(row))
        return {**found}

    def cancel(self, owner: str, job_id: str) -> Job:
        """End a waiting job now, ask a running one to stop. Raises ``job-not-found`` and ``job-finished``."""
        self.get(owner, job_id)
        with writing(self._engine) as connection:
            if not end(connection, _in_state(job_id, "queued"), "cancelled"):
                asked = update(jobs).where(*_in_state(job_id, "running")).values(cancel_requested=True)
                if not connection.execute(asked).rowcount:
                    remedy = "It cannot be cancelled."
                    raise _wrong_state(connection, job_id, "job-finished", "Job has ended", remedy=remedy)
        return self.get(owner, job_id)

    def retry(self, owner: str, job_id: str, *, max_queued: int) -> Job:
        """Queue a failed or cancelled job again; it goes on from its last checkpoint.

        Raises ``job-not-retriable`` and ``too-many-jobs``.
        """
        self.get(owner, job_id)
        with writing(self._engine) as connection:
            _check_room(connection, owner, max_queued)
            again = connection.execute(
                update(jobs)
                .where(*_in_state(job_id, "failed", "cancelled"))
                .values(
                    state="queued",
                    deaths=0,
                    cancel_requested=False,
                    dispatched=False,
                    error=None,
                    finished_at=None,
                    queued_at=time.time(),
                )
            ).rowcount
            if not again:
                remedy = "Failed and cancelled jobs can."
                raise _wrong_state(connection, job_id, "job-not-retriable", "Job cannot be retried", remedy=remedy)

            append(connection, job_id, [("state", {"state": "queued", "reason": "retried"})])
        return self.get(owner, job_id)

    def delete(self, owner: str, job_id: str) -> None:
        """Remove a job that has ended, with all it made. Raises ``job-not-found`` and ``job-not-finished``."""
        self.get(owner, job_id)
        with writing(self._engine) as connection:
            content = list(connection.scalars(select(artifacts.c.sha256).where(artifacts.c.job_id == job_id)))
            if not connection.execute(delete(jobs).where(*_in_state(job_id, *FINAL))).rowcount:
                remedy = "Cancel it first, then delete it."
                raise _wrong_state(connection, job_id, "job-not-finished", "Job has not ended", remedy=remedy)
        self._artifacts.collect(content)

    def expire(self, before: float) -> int:
        """Remove the jobs, of every owner, that ended before ``before``; returns how many."""
        with writing(self._engine) as connection:
            old = select(jobs.c.id).where(jobs.c.state.in_(FINAL), jobs.c.finished_at < before).limit(200)
            gone = list(connection.scalars(old))
            content = list(connection.scalars(select(artifacts.c.sha256).where(artifacts.c.job_id.in_(gone))))
            connection.execute(delete(jobs).where(jobs.c.id.in_(gone), jobs.c.state.in_(FINAL)))
        self._artifacts.collect(content)
        return len(gone)


def job_of(values: Mapping[Any, Any]) -> Job:
    """Read the job of a row of the table."""
    read: dict[str, Any] = {field.name: values.get(field.name) for field in fields(Job)}
    return Job(**read)


def not_found(job_id: str) -> Problem:
    return Problem(
        Kind.NOT_FOUND,
        "job-not-found",
        "Job does not exist",
        f"No job of yours has the id {job_id[:64]!r}.",
        remedy="GET /v1/jobs lists your jobs; finished ones are kept for a limited time.",
    )


def too_many(max_queued: int) -> Problem:
    return Problem(
        Kind.TOO_MANY,
        "too-many-jobs",
        "Too many jobs are waiting",
        f"A key may have {max_queued:,} queued jobs (max_jobs_queued).",
        remedy="Wait for some to finish, or cancel some.",
        retry_after=30,
    )


def _check_room(connection: Connection, owner: str, max_queued: int) -> None:
    in_turn(connection, f"jobs of {owner}")
    waiting = select(func.count()).where(jobs.c.owner == owner, jobs.c.state == "queued")
    if int(connection.scalar(waiting) or 0) >= max_queued:
        raise too_many(max_queued)


def _in_state(job_id: str, *states: str) -> tuple[ColumnElement[bool], ...]:
    return jobs.c.id == job_id, jobs.c.state.in_(states)


def _wrong_state(connection: Connection, job_id: str, code: str, title: str, *, remedy: str) -> Problem:
    state = connection.scalar(select(jobs.c.state).where(jobs.c.id == job_id))
    return Problem(Kind.CONFLICT, code, title, f"The job {job_id} is {state or 'gone'}.", remedy=remedy)
