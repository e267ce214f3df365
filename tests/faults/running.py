"""A whole platform under test: real processes, found by what they are, killed and counted."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
from sqlalchemy import select

from services.jobs.services import JobServices
from services.settings import Settings
from services.storage.database import reading
from services.storage.tables import job_events, job_totals
from sightline.launcher.rundir import read_server
from tests.support.serving import Serving, alive, children, command, eventually, start

ROLES = ("child", "worker", "broker", "maintenance", "gateway", "launcher")

UP_TO = 6
TOTAL = sum(range(UP_TO))
OUTPUT = b"".join(b"%d\n" % n for n in range(UP_TO))


class Platform:
    """``sightline serve`` on a folder, with kinds of jobs that can be stopped anywhere."""

    def __init__(
        self,
        data: Path,
        *,
        database_url: str | None = None,
        concurrency: int = 1,
        queue: str = "default",
        more: dict[str, str] | None = None,
    ) -> None:
        self.data = data
        self.queue = queue
        self.environment = {
            "SIGHTLINE_JOBS": "true",
            "SIGHTLINE_JOB_MODULES": '["tests.faults.failpoints"]',
            "SIGHTLINE_QUEUES": f'["{queue}"]',
            "SIGHTLINE_WORKER_CONCURRENCY": str(concurrency),
            "SIGHTLINE_LOG_LEVEL": "info",
            **({"SIGHTLINE_DATABASE_URL": database_url} if database_url else {}),
            **(more or {}),
        }
        settings = Settings(data_dir=data, job_modules=("tests.support.job_kinds",))
        if database_url:
            settings = settings.model_copy(update={"database_url": database_url})
        self.settings = settings
        self.server: Serving
        self.start()
        self.services = JobServices.open(settings)

    def start(self) -> None:
        """Start it, or start it again after it was killed."""
        (self.settings.run_dir / "server.json").unlink(missing_ok=True)
        self.server = start(self.data, "--port", "0", environment=self.environment)
        eventually(lambda: read_server(self.data / "run") is not None or self.server.process.poll() is not None, 60)
        info = read_server(self.data / "run")
        assert info is not None, self.server.log[-3000:]
        self.server.info = info
        self.http = httpx.Client(base_url=info.url, timeout=60)

    def close(self) -> None:
        self.http.close()
        self.services.close()
        self.server.process.terminate()
        try:
            self.server.process.wait(40)
        finally:
            self.server.process.kill()

    def pid(self, role: str) -> int | None:
        """The process of a role, if it runs just now."""
        launcher = self.server.process.pid
        if role == "launcher":
            return launcher
        wanted = {"broker": "valkey-server", "maintenance": "background maintenance", "gateway": "-m gateway"}
        try:
            for pid in children(launcher):
                said = command(pid)
                if role in wanted and wanted[role] in said:
                    return pid
                if role in ("worker", "child") and f"worker --queue {self.queue}" in said:
                    if role == "worker":
                        return pid
                    return next(iter(children(pid)), None)
        except FileNotFoundError:
            pass  # a process went while it was looked at
        return None

    def kill(self, role: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to the process of a role; a killed launcher is started again, as an init system would."""
        eventually(lambda: self.pid(role) is not None)
        victim = self.pid(role)
        assert victim is not None
        os.kill(victim, number)
        if number == signal.SIGKILL:
            if role == "launcher":
                self.server.process.wait()
                self.start()
            else:
                eventually(lambda: not alive(victim))
        return victim

    def submit(self, number: int = 1, kind: str = "count", **parameters: object) -> list[str]:
        """Submit jobs over HTTP; a gateway that is away is asked again, under the same idempotency key."""
        parameters = parameters or {"up_to": UP_TO, "checkpoint_every": 2}
        ids = []
        for _ in range(number):
            key = os.urandom(8).hex()
            end = time.monotonic() + 60
            while True:
                try:
                    body = {"kind": kind, "parameters": parameters}
                    answer = self.http.post("/v1/jobs", json=body, headers={"idempotency-key": key})
                    if answer.status_code == 202:
                        break
                    assert answer.status_code == 503, answer.text
                except httpx.TransportError:
                    pass
                assert time.monotonic() < end, "no job could be submitted for a minute"
                time.sleep(0.1)
            ids.append(str(answer.json()["id"]))
        return ids

    def states(self) -> Counter[str]:
        return Counter(job.state for job in self.services.jobs.list("anonymous", limit=100_000))

    def wait(self, seconds: float = 120) -> float:
        """Wait until every job has ended; returns how long that took."""
        begin = time.monotonic()
        try:
            eventually(lambda: not {"queued", "running"} & set(self.states()), seconds)
        except AssertionError:
            raise AssertionError(f"{self.states()}\n{self.server.log[-6000:]}") from None
        return time.monotonic() - begin

    def wait_for(self, check: Callable[[], bool], seconds: float = 60) -> None:
        eventually(check, seconds)

    def verify(self, ids: list[str]) -> None:
        """Every job ended exactly once, and rightly: its result, its output byte for byte, one final event."""
        jobs = {job.id: job for job in self.services.jobs.list("anonymous", limit=100_000)}
        assert set(jobs) == set(ids)
        wrong = [
            job for job in jobs.values() if job.state != "succeeded" or job.result != {"total": TOTAL, "counted": UP_TO}
        ]
        assert not wrong, wrong[:3]
        outputs = self.services.jobs.outputs(ids)
        for job_id in ids:
            [made] = outputs[job_id]
            assert b"".join(self.services.artifacts.read(made)) == OUTPUT, job_id
        with reading(self.services.engine) as connection:
            ended = connection.execute(select(job_totals.c.state, job_totals.c.jobs)).all()
            finals = Counter(
                row.job_id
                for row in connection.execute(select(job_events).where(job_events.c.event == "state"))
                if row.data["state"] == "succeeded"
            )
        assert [tuple(row) for row in ended] == [("succeeded", len(ids))]
        assert finals == dict.fromkeys(ids, 1)
