"""How a job ends, whoever ends it: one statement sets the final state, and everything that follows joins it.

The event, the counters and the webhook are of the same transaction, so a job ends once or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, insert, update
from sqlalchemy.dialects import postgresql, sqlite

from services.errors import Problem
from services.jobs.events import append
from services.storage.ids import new_id
from services.storage.tables import job_totals, jobs, webhook_deliveries


def end(
    connection: Connection,
    where: Sequence[ColumnElement[bool]],
    state: str,
    *,
    result: Mapping[str, Any] | None = None,
    error: Mapping[str, Any] | None = None,
) -> bool:
    """Bring the job that ``where`` names, if any, to a final state. Returns whether it was there to be ended."""
    now = time.time()
    row = connection.execute(
        update(jobs)
        .where(*where)
        .values(state=state, result=result, error=error, finished_at=now, worker=None, beat=jobs.c.beat + 1)
        .returning(jobs.c.id, jobs.c.kind, jobs.c.webhook, jobs.c.created_at, jobs.c.started_at, jobs.c.attempt)
    ).one_or_none()
    if row is None:
        return False

    told: dict[str, Any] = {"state": state, "attempt": row.attempt}
    if error is not None:
        told["error"] = error

    append(connection, row.id, [("state", told)])
    started = row.started_at if row.started_at is not None else now
    _count(connection, row.kind, state, wait=max(0.0, started - row.created_at), run=max(0.0, now - started))
    if row.webhook is not None:
        body = {
            "type": f"job.{state}",
            "timestamp": now,
            "data": {"object": "job", "id": row.id, "kind": row.kind, "state": state, "result": result, "error": error},
        }
        connection.execute(
            insert(webhook_deliveries).values(
                id=new_id("whd"),
                job_id=row.id,
                event=f"job.{state}",
                url=row.webhook["url"],
                secret=row.webhook["secret"],
                body=orjson.dumps(body).decode(),
                state="pending",
                attempts=0,
                created_at=now,
            )
        )

    return True


def document(problem: Problem) -> dict[str, Any]:
    """A problem as a job's ``error``; who shows it to a client adds what the protocol asks for."""
    fields = {
        "code": problem.code,
        "kind": problem.kind.value,
        "title": problem.title,
        "detail": problem.detail,
        "pointer": problem.pointer,
        "remedy": problem.remedy,
    }
    return {name: value for name, value in fields.items() if value}


def _count(connection: Connection, kind: str, state: str, *, wait: float, run: float) -> None:
    new = {"kind": kind, "state": state, "jobs": 1, "wait_seconds": wait, "run_seconds": run}
    more = {
        "jobs": job_totals.c.jobs + 1,
        "wait_seconds": job_totals.c.wait_seconds + wait,
        "run_seconds": job_totals.c.run_seconds + run,
    }
    insert_into = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(
        insert_into(job_totals).values(new).on_conflict_do_update(index_elements=["kind", "state"], set_=more)
    )
