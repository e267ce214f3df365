"""API keys: made once, shown once, kept as a hash."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, get_args

from sqlalchemy import Engine, Row, exists, insert, select, update

from services.errors import Kind, Problem
from services.storage import job_tokens
from services.storage.database import reading, writing
from services.storage.ids import new_id
from services.storage.tables import api_keys

Scope = Literal["infer", "jobs", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

ANONYMOUS = "anonymous"
"""The owner of what is made where keys are not asked for."""

_MARK = "sl_"
_PREFIX = len(_MARK) + 8


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is stored; times in Unix seconds.

    ``rate`` is requests a second: ``None`` is the platform's, 0 is unlimited.
    """

    id: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    rate: float | None
    created_at: float
    revoked_at: float | None = None
    job_id: str | None = None
    """The job that calls for this key, when it is not the key itself: such requests can wait behind others."""
    sees_all: bool = False
    """Whether the models of all keys are there for it: those of administrators, and their jobs."""

    def may(self, scope: Scope) -> bool:
        """``admin`` may do everything."""
        return scope in self.scopes or "admin" in self.scopes


class KeyStore:
    """The keys in the database. Every method is one short transaction; from async code, call it in a thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self, name: str, scopes: Iterable[str], rate: float | None = None) -> tuple[ApiKey, str]:
        """A new key and its secret, which cannot be had again. Raises ``key-invalid``."""
        wanted = tuple(dict.fromkeys(scopes))
        unknown = [scope for scope in wanted if scope not in SCOPES]
        if unknown or not wanted:
            raise Problem(
                Kind.INVALID,
                "key-invalid",
                "Key cannot be made",
                f"Unknown scope {unknown[0]!r}." if unknown else "A key needs at least one scope.",
                remedy=f"Scopes are {', '.join(SCOPES)}.",
            )

        if not name.strip() or len(name) > 200 or "\x00" in name:
            raise Problem(Kind.INVALID, "key-invalid", "Key cannot be made", "A key's name has 1 to 200 characters.")
        if rate is not None and not 0 < rate < 1e9:
            raise Problem(
                Kind.INVALID, "key-invalid", "Key cannot be made", "The rate is a positive number of requests a second."
            )

        secret = _MARK + secrets.token_urlsafe(32)
        key = ApiKey(new_id("key"), name.strip(), secret[:_PREFIX], wanted, rate, time.time())
        with writing(self._engine) as connection:
            connection.execute(
                insert(api_keys).values(
                    id=key.id,
                    name=key.name,
                    prefix=key.prefix,
                    hash=_hash(secret),
                    scopes=list(key.scopes),
                    rate=key.rate,
                    created_at=key.created_at,
                )
            )

        return key, secret

    def list(self) -> list[ApiKey]:
        """Every key, revoked ones too, oldest first."""
        with reading(self._engine) as connection:
            return [_key(row) for row in connection.execute(select(api_keys).order_by(api_keys.c.id))]

    def revoke(self, key_id: str) -> ApiKey:
        """Refuse the key from now on. Revoking twice changes nothing. Raises ``key-not-found``."""
        with writing(self._engine) as connection:
            connection.execute(
                update(api_keys)
                .where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
                .values(revoked_at=time.time())
            )
            row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).one_or_none()

        if row is None:
            raise Problem(
                Kind.NOT_FOUND,
                "key-not-found",
                "Key does not exist",
                f"No key has the id {key_id!r}.",
                remedy="sightline keys list",
            )

        return _key(row)

    def authenticate(self, secret: str) -> ApiKey | None:
        """The key that ``secret`` opens, or ``None`` for a wrong or revoked one.

        The token of a running job opens the key that the job belongs to, for inference only and without a rate.
        """
        if secret.startswith(job_tokens.MARK):
            return self._of_job(secret)
        if not secret.startswith(_MARK) or not secret.isascii() or len(secret) > 128:
            return None

        with reading(self._engine) as connection:
            rows = connection.execute(
                select(api_keys).where(api_keys.c.prefix == secret[:_PREFIX], api_keys.c.revoked_at.is_(None))
            ).all()

        digest = _hash(secret)
        for row in rows:
            if hmac.compare_digest(row.hash, digest):
                return _key(row)

        return None

    def is_admin(self, key_id: str) -> bool:
        """Return whether a key is an administrator's; where no key is asked for, everybody is one."""
        if key_id == ANONYMOUS:
            return True
        valid = api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None)
        with reading(self._engine) as connection:
            scopes = connection.scalar(select(api_keys.c.scopes).where(*valid))
        return "admin" in (scopes or ())

    def any(self) -> bool:
        """Return whether a key exists that is not revoked."""
        with reading(self._engine) as connection:
            return bool(connection.scalar(select(exists().where(api_keys.c.revoked_at.is_(None)))))

    def _of_job(self, token: str) -> ApiKey | None:
        found = job_tokens.verify(self._engine, token)
        if found is None:
            return None
        if found.owner == ANONYMOUS:
            return ApiKey(ANONYMOUS, "anonymous", "", ("infer",), 0.0, 0.0, job_id=found.job_id, sees_all=True)
        alive = api_keys.c.id == found.owner, api_keys.c.revoked_at.is_(None)
        with reading(self._engine) as connection:
            row = connection.execute(select(api_keys).where(*alive)).one_or_none()
        if row is None:
            return None
        key = _key(row)
        return replace(key, scopes=("infer",) if key.may("infer") else (), rate=0.0, job_id=found.job_id)


def _hash(secret: str) -> bytes:
    # The secret has 256 random bits: a slow password hash would guard nothing more.
    return hashlib.sha256(secret.encode()).digest()


def _key(row: Row[tuple[object, ...]]) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        scopes=tuple(row.scopes),
        rate=row.rate,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        sees_all="admin" in row.scopes,
    )
