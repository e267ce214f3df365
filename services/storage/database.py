"""One SQL database: SQLite for one machine, PostgreSQL for many, the same statements for both.

Work goes through :func:`reading` and :func:`writing`, each one transaction. A writing transaction takes SQLite's
write lock at its start: a read that turns into a write would otherwise fail at once when another writer came
between, instead of waiting for its turn.
"""

from __future__ import annotations

import fcntl
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from services.errors import Kind, Problem

HEAD = "0006"  # the newest migration: a database that is there already needs no Alembic to be opened
BUSY_SECONDS = 10.0
_MIGRATION_LOCK = 0x516874  # an arbitrary constant: PostgreSQL's advisory locks are numbers

T = TypeVar("T")


def connect(database_url: str, *, busy_seconds: float = BUSY_SECONDS) -> Engine:
    """An engine on ``sqlite:///path`` or ``postgresql://...`` (psycopg). Opens nothing yet; see :func:`upgrade`."""
    url = _normalised(database_url)
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database == ":memory:":
            raise Problem(
                Kind.INVALID,
                "database-unsupported",
                "Database address is not supported",
                "An in-memory SQLite database cannot be shared by several processes.",
                remedy="Name a file: sqlite:////var/lib/sightline/sightline.db",
            )
        engine = create_engine(url, connect_args={"timeout": busy_seconds, "check_same_thread": False})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    # A server may drop idle connections, or have been restarted: ask before use.
    return create_engine(url, pool_pre_ping=True, pool_size=5, max_overflow=10, connect_args={"connect_timeout": 10})


def upgrade(database_url: str) -> None:
    """Bring the schema to the newest version, once, however many processes ask at the same time."""
    url = _normalised(database_url)
    if url.get_backend_name() == "sqlite" and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        # It holds secrets of webhooks: no other user of the machine is to read it, nor the files beside it, which
        # SQLite gives the same rights.
        Path(url.database).touch(mode=0o600, exist_ok=True)
    engine = connect(database_url)
    try:
        if version(engine) == HEAD:
            return
        with _migration_lock(engine, url), engine.connect() as connection:
            # Alembic and its templates take a fifth of a second to import, so only when there is work.
            from alembic import command
            from alembic.config import Config
            from alembic.util.exc import CommandError

            config = Config()
            config.set_main_option("script_location", "services.storage:migrations")
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise Problem(
                    Kind.CONFLICT,
                    "database-newer",
                    "Database belongs to a newer version",
                    f"It is at step {version(engine)}, this version knows steps up to {HEAD}: {error}",
                    remedy="Run the newer version, or restore the database from before it was upgraded.",
                ) from error
    finally:
        engine.dispose()


def version(engine: Engine) -> str | None:
    """The migration that the database is at; ``None`` for an empty one."""
    with reading(engine) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return found


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One transaction that only reads: a consistent view that waits for no writer."""
    with engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that writes; committed at the end, or nothing of it is."""
    with engine.connect().execution_options(sightline_writes=True) as connection, connection.begin():
        yield connection


def in_turn(connection: Connection, name: str) -> None:
    """Until the transaction ends, nobody else goes on from here under ``name``: what is counted stays so.

    SQLite has one writer at a time anyway.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})


def is_transient(error: Exception) -> bool:
    """Return whether the same statement may succeed later: a lock held too long, a server that went away."""
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    if isinstance(error.orig, sqlite3.OperationalError):
        return any(sign in str(error.orig) for sign in ("locked", "busy", "disk is full", "disk I/O", "unable to open"))
    return isinstance(error, OperationalError | InterfaceError)


def persistently(work: Callable[[], T], *, seconds: float, give_up: Callable[[], bool] | None = None) -> T:
    """Run ``work`` until it succeeds, for at most ``seconds``, past transient database trouble.

    ``work`` must be safe to run again after a commit whose answer got lost. Raises the last error in the end.
    """
    end, pause = time.monotonic() + seconds, 0.05
    while True:
        try:
            return work()
        except SQLAlchemyError as error:
            if not is_transient(error) or time.monotonic() + pause > end or (give_up is not None and give_up()):
                raise
        time.sleep(pause)
        pause = min(pause * 2, 2.0)


def _normalised(database_url: str) -> URL:
    url = make_url(database_url)
    if url.drivername in ("postgres", "postgresql"):
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise Problem(
            Kind.INVALID,
            "database-unsupported",
            "Database address is not supported",
            f"{url.drivername!r} is neither SQLite nor PostgreSQL.",
            remedy="Set SIGHTLINE_DATABASE_URL to sqlite:///path or postgresql://user:password@host/name.",
        )
    return url


def _prepare_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite, not by the driver's guess
    cursor = connection.cursor()
    _keep_write_ahead_log(cursor)
    cursor.execute("PRAGMA synchronous=FULL")  # a job that was accepted survives a power cut
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA wal_autocheckpoint=1000")
    cursor.close()


def _keep_write_ahead_log(cursor: sqlite3.Cursor) -> None:
    """The mode stays with the file, so only the first process changes it; others may be at the file meanwhile, and
    SQLite does not wait for them here, as it does elsewhere."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
        time.sleep(0.02)


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("sightline_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _migration_lock(engine: Engine, url: URL) -> Iterator[None]:
    if url.get_backend_name() == "sqlite":
        with Path(f"{url.database}.migrate").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
    else:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:n)"), {"n": _MIGRATION_LOCK})
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:n)"), {"n": _MIGRATION_LOCK})
