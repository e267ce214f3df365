"""The torch worker with the programs of the tests: under a supervisor that starts it on demand, or on an address.

``python -m tests.support.torch_worker supervise`` is what ``sightline serve`` does for it; ``worker --fd N`` and
``address PORT`` are the worker. Settings come from the environment, as ever.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gateway import logs
from services.runtime.served import NoObserver
from services.runtime.torch_worker import endpoint
from services.runtime.torch_worker.process import main as torch_main
from services.settings import Settings, child_environment
from sightline.launcher import companions
from sightline.launcher.supervisor import Supervisor
from tests.support.torch_programs import PROGRAMS

ROOT = Path(__file__).parents[2]


class StepsObserver(NoObserver):
    """Adds up the steps of runs."""

    def __init__(self) -> None:
        self.steps: dict[str, int] = {}

    def on_steps(self, model: str, steps: int) -> None:
        self.steps[model] = self.steps.get(model, 0) + steps


@dataclass(frozen=True, slots=True)
class Running:
    """A supervised worker; ``log`` is what both of them say."""

    supervisor: subprocess.Popen[bytes]
    log: Path

    @property
    def pids(self) -> list[int]:
        """What the supervisor has started."""
        children = Path(f"/proc/{self.supervisor.pid}/task/{self.supervisor.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    @property
    def pid(self) -> int | None:
        """The worker's process id, when it runs."""
        return next(iter(self.pids), None)

    def kill(self) -> None:
        pid = self.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)


@contextmanager
def supervised(settings: Settings) -> Iterator[Running]:
    """The worker for gateways with these settings, started when one of them needs it."""
    with _process(settings, "supervise") as (popen, log):
        path = settings.run_dir / endpoint.SOCKET
        _until(path.exists, popen, log)
        yield Running(popen, log)


@contextmanager
def at_address(settings: Settings, port: int) -> Iterator[Path]:
    """The worker on a port of loopback; gives its log."""
    with _process(settings, "address", str(port)) as (popen, log):
        _until(lambda: "computes on" in log.read_text(), popen, log)
        yield log


@contextmanager
def _process(settings: Settings, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    log = settings.data_dir / f"torch-{arguments[0]}.log"
    environment = child_environment(settings, defaults={}, fixed={"PYTHONPATH": str(ROOT)})
    with log.open("wb") as out:
        argv = [sys.executable, "-m", "tests.support.torch_worker", *arguments]
        popen = subprocess.Popen(argv, env=environment, stdout=out, stderr=out)
        try:
            yield popen, log
        finally:
            popen.terminate()
            try:
                popen.wait(timeout=60)
            finally:
                popen.kill()


def _until(true: object, popen: subprocess.Popen[bytes], log: Path) -> None:
    assert callable(true)
    end = time.monotonic() + 60
    while not true():
        assert popen.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.02)


def _supervise(settings: Settings) -> None:
    listening = endpoint.listen(settings.run_dir / endpoint.SOCKET)
    process = companions.torch_worker(settings, listening.fileno())
    argv = (sys.executable, "-m", "tests.support.torch_worker", "worker", str(listening.fileno()))
    Supervisor([replace(process, argv=argv)]).run(lambda: None, lambda: None)


def main(arguments: list[str]) -> int:
    settings = Settings()
    logs.configure(settings.log_level, settings.log_format)
    match arguments:
        case ["supervise"]:
            _supervise(settings)
        case ["worker", descriptor]:
            return torch_main.serve_inherited(settings, int(descriptor), PROGRAMS)
        case ["address", port]:
            return torch_main.serve_address(settings, "127.0.0.1", int(port), PROGRAMS)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
