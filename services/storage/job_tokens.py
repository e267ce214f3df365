"""How a running job calls the platform's own API for its owner: a token that dies with the job's lease."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from sqlalchemy import Engine, select
from sqlalchemy.dialects import postgresql, sqlite

from services.storage.database import reading, writing
from services.storage.tables import jobs, platform_values

MARK = "sl_job."
_NAME = "job-token-signing"


@dataclass(frozen=True, slots=True)
class JobToken:
    """What a valid token says: a running job and the key that it belongs to."""

    job_id: str
    owner: str


def mint(engine: Engine, job_id: str, fence: int) -> str:
    """A token for one attempt at a job: ``sl_job.{job}.{fence}.{mac}``."""
    return f"{MARK}{job_id}.{fence}.{_mac(_secret(engine), job_id, fence)}"


def verify(engine: Engine, token: str) -> JobToken | None:
    """Whose the token is, as long as that attempt is running; else ``None``."""
    job_id, _, rest = token.removeprefix(MARK).partition(".")
    fence, _, mac = rest.partition(".")
    if not fence.isdecimal() or len(fence) > 9 or not token.isascii():
        return None
    if not hmac.compare_digest(mac, _mac(_secret(engine), job_id, int(fence))):
        return None
    held = jobs.c.id == job_id, jobs.c.fence == int(fence), jobs.c.state == "running"
    with reading(engine) as connection:
        owner = connection.scalar(select(jobs.c.owner).where(*held))
    return JobToken(job_id, owner) if owner is not None else None


def _mac(secret: str, job_id: str, fence: int) -> str:
    return hmac.new(bytes.fromhex(secret), f"{job_id}.{fence}".encode(), hashlib.sha256).hexdigest()


def _secret(engine: Engine) -> str:
    """The platform's signing key, made by whoever needs it first."""
    query = select(platform_values.c.value).where(platform_values.c.name == _NAME)
    with reading(engine) as connection:
        found: str | None = connection.scalar(query)
    if found is not None:
        return found
    new = {"name": _NAME, "value": secrets.token_hex(32)}
    insert_into = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
    with writing(engine) as connection:
        connection.execute(insert_into(platform_values).values(new).on_conflict_do_nothing())
        return str(connection.scalar(query))
