"""A worker forks while it has one thread only, and ends when it hears nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.jobs import broker, deafness
from services.jobs.celery_app import make_app
from services.settings import Settings, child_environment
from services.storage import database
from tests.support.server import ROOT

_COUNTED = """
import os, sys
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def count():
    os.write(log, b"%d\\n" % len(os.listdir("/proc/self/task")))
os.register_at_fork(before=count)
from sightline.launcher.background import main
sys.exit(main(["worker", "--queue", "batch"]))
"""


@pytest.fixture
def with_broker(settings: Settings) -> Iterator[Settings]:
    made = broker.private(settings)
    process = subprocess.Popen(made.argv)
    try:
        while not made.ready():
            time.sleep(0.02)
        yield settings.model_copy(update={"redis_url": made.url})
    finally:
        process.kill()
        process.wait()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are counted in /proc")
def test_a_worker_has_one_thread_whenever_it_forks(with_broker: Settings, tmp_path: Path) -> None:
    database.upgrade(with_broker.database)
    log = tmp_path / "forks"
    worker = subprocess.Popen(
        [sys.executable, "-c", _COUNTED, str(log)], cwd=ROOT, env=child_environment(with_broker, {}, {})
    )

    def forks(at_least: int) -> list[str]:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            found = log.read_text().split() if log.exists() else []
            if len(found) >= at_least and _children(worker.pid):
                return found
            assert worker.poll() is None
            time.sleep(0.05)
        raise AssertionError(f"{at_least} forks were awaited")

    try:
        before = forks(1)
        time.sleep(3)  # whatever starts with the worker has started
        os.kill(_children(worker.pid)[0], signal.SIGKILL)
        assert set(forks(len(before) + 1)) == {"1"}
    finally:
        worker.terminate()
        assert worker.wait(30) == 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(deafness.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(("waits", "reserved", "ends"), [(True, 0, True), (True, 1, False), (False, 0, False)])
def test_a_worker_ends_only_when_messages_wait_and_a_child_is_free(
    settings: Settings, clock: list[float], monkeypatch: pytest.MonkeyPatch, waits: bool, reserved: int, ends: bool
) -> None:
    done: list[tuple[Any, ...]] = []
    monkeypatch.setattr(deafness, "_any_waits", lambda app: waits)
    monkeypatch.setattr(deafness.state, "reserved_requests", set(range(reserved)))
    monkeypatch.setattr(deafness.os, "kill", lambda *told: done.append(told))
    monkeypatch.setattr(deafness.signal, "alarm", lambda seconds: done.append(("alarm", seconds)))
    monkeypatch.setattr(deafness.signal, "signal", lambda *told: None)
    monkeypatch.setattr(deafness, "_queue", lambda app: "batch")
    cancelled: list[bool] = []
    timer = SimpleNamespace(cancel=lambda: cancelled.append(True))
    consumer = SimpleNamespace(
        app=make_app(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1"})),
        controller=SimpleNamespace(concurrency=1),
        timer=SimpleNamespace(call_repeatedly=lambda *given: timer),
    )

    step = deafness.Deafness(consumer)
    step.start(consumer)
    for _ in range(6):
        step.listen(consumer)
        assert not done
        clock[0] += 2.0
    step.listen(consumer)
    assert bool(done) is ends
    if ends:
        assert done == [("alarm", 15), (os.getpid(), signal.SIGTERM)] and cancelled
