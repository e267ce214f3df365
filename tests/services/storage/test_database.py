"""The schema comes up once, equals the tables, and writers wait for each other."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import OperationalError

from services.errors import Problem
from services.storage import database
from services.storage.database import HEAD, connect, is_transient, persistently, reading, upgrade, version, writing
from services.storage.tables import metadata, platform_values
from tests.support.postgres import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'deep' / 'er' / 'x.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


def test_migrations_make_the_tables_and_head_names_the_last(url: str) -> None:
    upgrade(url)
    engine = connect(url)
    with reading(engine) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    folder = Path(database.__file__).parent / "migrations"
    assert version(engine) == HEAD == ScriptDirectory(str(folder)).get_current_head()
    engine.dispose()


def test_no_other_user_may_read_the_file_or_those_beside_it(tmp_path: Path) -> None:
    upgrade(f"sqlite:///{tmp_path / 'x.db'}")
    engine = connect(f"sqlite:///{tmp_path / 'x.db'}")
    with writing(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = version_num"))
    with reading(engine):
        modes = {path.name: path.stat().st_mode & 0o077 for path in tmp_path.glob("x.db*") if path.suffix != ".migrate"}
    assert modes.keys() >= {"x.db", "x.db-wal"} and not any(modes.values()), modes
    engine.dispose()


def test_a_database_of_a_newer_version_is_refused(url: str) -> None:
    upgrade(url)
    engine = connect(url)
    with writing(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Problem) as refused:
        upgrade(url)
    assert refused.value.code == "database-newer"
    engine.dispose()


def test_many_processes_may_bring_the_schema_up_at_once(url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=upgrade, args=(url,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    upgrade(url)


def test_two_that_open_a_new_file_at_once_do_not_refuse_each_other(tmp_path: Path) -> None:
    """Both change its journal's mode; SQLite tells one at once that it is locked, now and then."""
    barrier, failures = threading.Barrier(4), list[Exception]()

    def open_it(path: Path) -> None:
        engine = connect(f"sqlite:///{path}")
        barrier.wait()
        try:
            version(engine)
        except OperationalError as error:
            failures.append(error)
        engine.dispose()

    for round_ in range(150):
        threads = [threading.Thread(target=open_it, args=(tmp_path / f"{round_}.db",)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


def test_writers_take_turns_and_lose_no_update(url: str) -> None:
    upgrade(url)
    engine = connect(url)
    with writing(engine) as connection:
        connection.execute(platform_values.insert().values(name="n", value="0"))

    def count(engine: Engine) -> None:
        for _ in range(25):
            with writing(engine) as connection:
                # Read, then write: what SQLite refuses at once unless the lock is taken at the start.
                locked = select(platform_values.c.value).where(platform_values.c.name == "n").with_for_update()
                value = int(connection.scalar(locked) or 0)
                connection.execute(platform_values.update().values(value=str(value + 1)))

    threads = [threading.Thread(target=count, args=(engine,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with reading(engine) as connection:
        assert connection.scalar(select(platform_values.c.value)) == "100"
    engine.dispose()


def test_a_failed_transaction_leaves_nothing(url: str) -> None:
    upgrade(url)
    engine = connect(url)
    with pytest.raises(RuntimeError), writing(engine) as connection:
        connection.execute(platform_values.insert().values(name="a", value="b"))
        raise RuntimeError
    with reading(engine) as connection:
        assert connection.execute(select(platform_values)).all() == []
    engine.dispose()


def test_a_locked_database_is_transient_and_waited_out(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    upgrade(url)
    engine = connect(url, busy_seconds=0.05)
    holder = sqlite3.connect(tmp_path / "x.db", isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN EXCLUSIVE")

    def write() -> str:
        with writing(engine) as connection:
            connection.execute(platform_values.insert().values(name="a", value="b"))
        return "written"

    with pytest.raises(OperationalError) as locked:
        write()
    assert is_transient(locked.value)
    release = threading.Timer(0.4, holder.execute, args=("ROLLBACK",))
    release.start()
    begin = time.monotonic()
    assert persistently(write, seconds=10) == "written"
    assert time.monotonic() - begin > 0.2
    holder.close()


def test_a_server_that_restarts_is_waited_out(postgres: Postgres) -> None:
    url = postgres.database()
    upgrade(url)
    engine = connect(url)
    with reading(engine) as connection:
        connection.execute(text("SELECT 1"))
    restart = threading.Thread(target=postgres.restart)
    restart.start()

    def ask() -> object:
        with reading(engine) as connection:
            return connection.scalar(text("SELECT 42"))

    time.sleep(0.1)
    assert persistently(ask, seconds=20) == 42
    restart.join()
    engine.dispose()


def test_a_wrong_statement_is_not_transient(url: str) -> None:
    engine = connect(url)
    upgrade(url)
    calls = 0

    def wrong() -> None:
        nonlocal calls
        calls += 1
        with reading(engine) as connection:
            connection.execute(text("SELECT * FROM no_such_table"))

    with pytest.raises(Exception, match="no_such_table"):
        persistently(wrong, seconds=5)
    assert calls == 1
    engine.dispose()


@pytest.mark.parametrize("address", ["sqlite://", "sqlite:///:memory:", "mysql://x/y"])
def test_an_address_that_cannot_work_is_refused(address: str) -> None:
    with pytest.raises(Problem) as refused:
        connect(address)
    assert refused.value.code == "database-unsupported"
