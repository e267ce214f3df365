"""Jobs come back from workers that are gone, and stay with workers that live, whatever clocks say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from services.jobs import leases, owner, reaper
from services.jobs.owner import Sight
from services.jobs.reaper import Reaper
from services.jobs.services import JobServices
from tests.services.jobs.test_runner import OWNER, submit


class Clock:
    """The reaper's monotonic clock, in a test's hands."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(reaper, "time", clock)
    return clock


def held(services: JobServices, worker: str) -> leases.Lease:
    job = submit(services, "count")
    lease = leases.claim(services.engine, job.id, worker)
    assert lease is not None
    return lease


def state(services: JobServices, lease: leases.Lease) -> str:
    return services.jobs.get(OWNER, lease.job.id).state


def watch(services: JobServices) -> Reaper:
    return Reaper(services.engine, lease=10, max_deaths=3)


def test_a_worker_elsewhere_loses_its_job_after_a_silent_lease(services: JobServices, clock: Clock) -> None:
    lease, watching = held(services, "elsewhere:1:2:3"), watch(services)
    for _ in range(4):
        watching.sweep()
        assert state(services, lease) == "running"
        clock.now += 2.4
    clock.now += 2
    assert watching.sweep() == 1
    assert state(services, lease) == "queued"
    assert services.jobs.get(OWNER, lease.job.id).deaths == 1


def test_a_beat_keeps_the_lease_for_ever(services: JobServices, clock: Clock) -> None:
    lease, watching = held(services, "elsewhere:1:2:3"), watch(services)
    for _ in range(20):
        leases.beat(services.engine, lease)
        watching.sweep()
        clock.now += 4
    assert state(services, lease) == "running"


def test_a_wall_clock_that_jumps_changes_nothing(
    services: JobServices, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, watching = held(services, "elsewhere:1:2:3"), watch(services)
    watching.sweep()
    real = time.time
    for jump in (3600, -3600, 86400 * 365):
        monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
        clock.now += 2
        assert watching.sweep() == 0
    clock.now += 3.9
    assert watching.sweep() == 0
    clock.now += 0.2
    assert watching.sweep() == 1
    assert state(services, lease) == "queued"


def test_a_reaper_that_was_stopped_itself_judges_anew(services: JobServices, clock: Clock) -> None:
    lease, watching = held(services, "elsewhere:1:2:3"), watch(services)
    watching.sweep()
    clock.now += 3600  # the machine was suspended, or the database away: nobody could beat
    assert watching.sweep() == 0
    for _ in range(3):
        clock.now += 4
        watching.sweep()
    assert state(services, lease) == "queued"


def test_a_dead_process_of_this_machine_loses_its_job_at_once(services: JobServices) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    lease, watching = held(services, owner.identity(process.pid)), watch(services)
    assert watching.sweep() == 0
    process.kill()
    process.wait()
    assert watching.sweep() == 1
    assert state(services, lease) == "queued"


def test_a_living_silent_process_gets_more_time_than_a_stopped_one(services: JobServices, clock: Clock) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        lease, watching = held(services, owner.identity(process.pid)), watch(services)
        for _ in range(8):
            clock.now += 4
            assert watching.sweep() == 0
        process.send_signal(signal.SIGSTOP)
        while owner.look(owner.identity(process.pid)) is not Sight.STOPPED:
            time.sleep(0.01)
        clock.now += 4
        assert watching.sweep() == 1
        assert state(services, lease) == "queued"
    finally:
        process.kill()
        process.wait()


def test_a_process_is_known_from_any_other(services: JobServices) -> None:
    me = owner.identity()
    assert owner.look(me) is Sight.ALIVE
    host, namespace, pid, start = me.split(":")
    assert owner.look(f"{host}:{namespace}:{pid}:{int(start) - 1}") is Sight.GONE  # the number was used before
    assert owner.look(f"other:{namespace}:{pid}:{start}") is Sight.ELSEWHERE
    assert owner.look(f"{host}:1:{pid}:{start}") is Sight.ELSEWHERE
    assert owner.look("") is Sight.ELSEWHERE
    name, _, boot = host.rpartition(".")
    assert boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    another_machine = f"{name}.{boot[::-1]}"  # of the same name, where a process of the same number has ended
    assert owner.look(f"{another_machine}:{namespace}:{pid}:{int(start) - 1}") is Sight.ELSEWHERE
    assert str(os.getpid()) == pid


def test_two_reapers_take_a_job_once(services: JobServices) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    identity = owner.identity(process.pid)
    process.wait()
    held(services, identity)
    assert sum(watch(services).sweep() for _ in range(3)) == 1
