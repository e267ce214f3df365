"""Artifacts: named content that belongs to a key. Written aside, hashed on the way, then published in one transaction.

The row is the truth: an artifact exists exactly when its row does, and no row is committed before its bytes are safe.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar
from uuid import uuid4

from sqlalchemy import Connection, Engine, Row, delete, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from services.storage.blobs import Blobs
from services.storage.database import in_turn, reading, writing
from services.storage.drafts import CHUNK, Draft
from services.storage.ids import is_id, new_id
from services.storage.problems import not_found, over_quota, storage_problems
from services.storage.tables import artifacts, blobs

Role = Literal["upload", "output", "dataset", "bot", "checkpoint", "segment"]
PUBLIC: tuple[Role, ...] = ("upload", "output")
"""What a key sees of its artifacts; the others are a running job's own, or a data set's package."""

COUNTED: tuple[Role, ...] = (*PUBLIC, "dataset", "bot")
"""What a key's quota is for."""

_STRAY_SECONDS = 24 * 3600.0  # far longer than any upload, and than any sane clock correction
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Artifact:
    """Named content; ``size`` in bytes, ``created_at`` in Unix seconds."""

    id: str
    owner: str
    job_id: str | None
    role: Role
    name: str
    media_type: str
    sha256: str
    size: int
    created_at: float


class ArtifactStore:
    """The artifacts of every key. Methods block; from async code, call them in a thread."""

    def __init__(self, engine: Engine, store: Blobs, scratch: Path, *, quota_bytes: int = 0) -> None:
        self._engine = engine
        self._blobs = store
        self._scratch = scratch
        self._quota = quota_bytes

    def draft(self, limit: int | None = None) -> Draft:
        """A new draft of at most ``limit`` bytes."""
        return Draft(self._scratch / uuid4().hex, limit)

    def room(self, owner: str) -> int | None:
        """Bytes that ``owner`` may still store; ``None`` is without limit."""
        if not self._quota:
            return None
        with reading(self._engine) as connection:
            return max(0, self._quota - _used(connection, owner))

    def affordable(self, owner: str) -> Callable[[int], None]:
        """A check of what ``owner`` is about to store: given its bytes, it raises ``artifact-quota`` for too many."""
        room = self.room(owner)

        def check(size: int) -> None:
            if room is not None and size > room:
                raise over_quota(self._quota)

        return check

    def add(self, draft: Draft, owner: str, name: str, media_type: str) -> Artifact:
        """Publish an upload. Raises ``artifact-quota`` and ``storage-full``; then nothing is kept."""
        return self.publish([draft], lambda connection: self.record(connection, draft, owner, name, media_type))

    def publish(self, drafts: Sequence[Draft], transaction: Callable[[Connection], T]) -> T:
        """Make the drafts' bytes safe, then run ``transaction``, which records them, in one writing transaction."""
        hashes = {draft.finish(): draft for draft in drafts}
        # Before the locks, since it may take long; nobody waits meanwhile.
        with storage_problems():
            for sha256, draft in hashes.items():
                self._blobs.place(draft.path, sha256)

        with writing(self._engine) as connection:
            for sha256 in sorted(hashes):
                _lock_blob(connection, sha256, hashes[sha256].size)
            # A collector may have removed an old blob of the same content before the lock was ours. Now it waits.
            with storage_problems():
                for sha256, draft in hashes.items():
                    if not self._blobs.exists(sha256):
                        self._blobs.place(draft.path, sha256)
            return transaction(connection)

    def record(
        self,
        connection: Connection,
        draft: Draft,
        owner: str,
        name: str,
        media_type: str,
        role: Role = "upload",
        job_id: str | None = None,
    ) -> Artifact:
        """Inside :meth:`publish`: the row of a finished draft. One of the same job, role and name is replaced."""
        if job_id is not None:
            connection.execute(
                delete(artifacts).where(
                    artifacts.c.job_id == job_id, artifacts.c.role == role, artifacts.c.name == name
                )
            )

        if role in COUNTED and self._quota:
            in_turn(connection, f"artifacts of {owner}")
            if _used(connection, owner) + draft.size > self._quota:
                raise over_quota(self._quota)

        artifact = Artifact(
            id=new_id("art"),
            owner=owner,
            job_id=job_id,
            role=role,
            name=name,
            media_type=media_type,
            sha256=draft.finish(),
            size=draft.size,
            created_at=time.time(),
        )
        connection.execute(
            insert(artifacts).values(
                id=artifact.id,
                owner=owner,
                job_id=job_id,
                role=role,
                name=name,
                media_type=media_type,
                sha256=artifact.sha256,
                size=artifact.size,
                created_at=artifact.created_at,
            )
        )
        return artifact

    def get(self, owner: str, artifact_id: str) -> Artifact:
        """One of the owner's artifacts. Raises ``artifact-not-found``, whether unknown or another's."""
        if is_id(artifact_id, "art"):
            with reading(self._engine) as connection:
                row = connection.execute(
                    select(artifacts).where(
                        artifacts.c.id == artifact_id, artifacts.c.owner == owner, artifacts.c.role.in_(PUBLIC)
                    )
                ).one_or_none()
            if row is not None:
                return artifact_of(row)
        raise not_found(artifact_id)

    def by_id(self, artifact_id: str) -> Artifact:
        """Any artifact, whoever owns it: for the platform's own use. Raises ``artifact-not-found``."""
        with reading(self._engine) as connection:
            row = connection.execute(select(artifacts).where(artifacts.c.id == artifact_id)).one_or_none()
        if row is None:
            raise not_found(artifact_id)
        return artifact_of(row)

    def list(self, owner: str, *, limit: int = 100, after: str | None = None) -> list[Artifact]:
        """The owner's artifacts, newest first, those before the id ``after``."""
        query = select(artifacts).where(artifacts.c.owner == owner, artifacts.c.role.in_(PUBLIC))
        if after is not None:
            query = query.where(artifacts.c.id < after)
        with reading(self._engine) as connection:
            return [artifact_of(row) for row in connection.execute(query.order_by(artifacts.c.id.desc()).limit(limit))]

    def of_job(self, job_id: str, role: Role = "output") -> Sequence[Artifact]:
        """Return what a job made, by name."""
        query = select(artifacts).where(artifacts.c.job_id == job_id, artifacts.c.role == role)
        with reading(self._engine) as connection:
            return tuple(artifact_of(row) for row in connection.execute(query.order_by(artifacts.c.name)))

    def open(self, artifact: Artifact) -> BinaryIO:
        """The content, seekable."""
        with storage_problems():
            return self._blobs.open(artifact.sha256)

    def read(self, artifact: Artifact, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Bytes ``start`` to ``end`` (exclusive), in chunks."""
        left = (artifact.size if end is None else end) - start
        with self.open(artifact) as source:
            source.seek(start)
            while left > 0 and (chunk := source.read(min(CHUNK, left))):
                left -= len(chunk)
                yield chunk

    def copy_to(self, artifact: Artifact, path: Path) -> Path:
        """The content as a local file."""
        with storage_problems(), path.open("wb") as target:
            for chunk in self.read(artifact):
                target.write(chunk)
        return path

    def delete(self, owner: str, artifact_id: str) -> None:
        """Remove an upload or output. Raises ``artifact-not-found``."""
        artifact = self.get(owner, artifact_id)
        with writing(self._engine) as connection:
            connection.execute(delete(artifacts).where(artifacts.c.id == artifact.id))
        self.collect([artifact.sha256])

    def expire(self, before: float) -> int:
        """Remove uploads older than ``before`` (Unix seconds); returns how many. Outputs go with their job."""
        with writing(self._engine) as connection:
            old = artifacts.c.role == "upload", artifacts.c.created_at < before
            gone = connection.execute(select(artifacts.c.id, artifacts.c.sha256).where(*old).limit(1000)).all()
            connection.execute(delete(artifacts).where(artifacts.c.id.in_([row.id for row in gone])))
        self.collect([row.sha256 for row in gone])
        return len(gone)

    def collect(self, hashes: Sequence[str]) -> None:
        """Remove those blobs that no artifact names any more."""
        for sha256 in set(hashes):
            with writing(self._engine) as connection:
                # Two statements: the second must see what was committed while the first waited for the lock.
                _lock_blob(connection, sha256, 0)
                if connection.execute(select(artifacts.c.id).where(artifacts.c.sha256 == sha256).limit(1)).first():
                    continue
                connection.execute(delete(blobs).where(blobs.c.sha256 == sha256))
                with storage_problems():
                    self._blobs.remove(sha256)

    def sweep(self) -> int:
        """Remove what crashes left behind: blobs and drafts without a row, a day old. Returns the blobs removed."""
        with writing(self._engine) as connection:
            named = select(artifacts.c.sha256).where(artifacts.c.sha256 == blobs.c.sha256).exists()
            unnamed = list(connection.scalars(select(blobs.c.sha256).where(~named).limit(1000)))

        self.collect(unnamed)
        removed = len(unnamed)
        with storage_problems():
            strays = list(self._blobs.older_than(_STRAY_SECONDS))

        for sha256 in strays:
            with reading(self._engine) as connection:
                known = connection.execute(select(blobs.c.sha256).where(blobs.c.sha256 == sha256)).first()
            if known is None:
                self.collect([sha256])
                removed += 1

        if self._scratch.is_dir():
            limit = time.time() - _STRAY_SECONDS
            for path in self._scratch.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if path.is_file() and path.stat().st_mtime < limit:
                        path.unlink()

        return removed


def artifact_of(row: Row[tuple[object, ...]]) -> Artifact:
    """The artifact of a row of the table."""
    return Artifact(**row._mapping)


def _used(connection: Connection, owner: str) -> int:
    total = select(func.coalesce(func.sum(artifacts.c.size), 0)).where(
        artifacts.c.owner == owner, artifacts.c.role.in_(COUNTED)
    )
    return int(connection.scalar(total) or 0)


def _lock_blob(connection: Connection, sha256: str, size: int) -> None:
    """Hold the row of a blob, made if there was none, until the transaction ends: publishing and collecting take turns.

    SQLite has one writer at a time anyway; in PostgreSQL only an update, not a mere conflict, takes the lock.
    """
    if connection.dialect.name == "postgresql":
        mine = postgresql.insert(blobs).values(sha256=sha256, size=size)
        connection.execute(mine.on_conflict_do_update(index_elements=["sha256"], set_={"sha256": sha256}))
    else:
        lite = sqlite.insert(blobs).values(sha256=sha256, size=size)
        connection.execute(lite.on_conflict_do_nothing())
