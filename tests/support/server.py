"""Real gateway processes on a free port: as the launcher starts them, without the launcher."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from services.settings import Settings, child_environment

ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Server:
    """One listening socket and the worker processes on it."""

    settings: Settings
    listening: socket.socket
    log: Path
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return int(self.listening.getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the only worker."""
        (worker,) = self.workers.values()
        return worker.pid

    def start(self, name: str = "w0", *, wrapper: str = "") -> subprocess.Popen[bytes]:
        """Start a worker; ``wrapper`` is Python to run in the process before the gateway is imported."""
        arguments = ["--fd", str(self.listening.fileno()), "--worker", name]
        program = ["-m", "gateway"] if not wrapper else ["-c", f"{wrapper}\n{_MAIN}"]
        with self.log.open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, *program, *arguments],
                cwd=ROOT,
                env=child_environment(self.settings, {"OMP_NUM_THREADS": "1"}, {}),
                pass_fds=(self.listening.fileno(),),
                stderr=log,
                stdout=log,
            )
        self.workers[name] = worker
        return worker

    def wait_ready(self, seconds: float = 180) -> None:
        """Return when one worker answers that it is ready."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for name, worker in self.workers.items():
                assert worker.poll() is None, f"worker {name} ended with {worker.returncode}:\n{self.said()}"
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.05)
        raise AssertionError(f"not ready within {seconds} s:\n{self.said()}")

    def said(self) -> str:
        """What the workers have written to their log."""
        return self.log.read_text("utf-8", "replace")[-8000:] if self.log.exists() else ""

    def resident(self, pid: int | None = None) -> int:
        """Bytes of a worker in memory."""
        pages = int(Path(f"/proc/{pid or self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def peak(self) -> int:
        """The most bytes that the only worker ever had in memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmHWM")

    def stop(self) -> None:
        """End every worker, by force if need be."""
        for worker in self.workers.values():
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
        for worker in self.workers.values():
            try:
                worker.wait(15)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait(10)
        self.listening.close()


_MAIN = "import sys\nfrom gateway.__main__ import main\nsys.exit(main(sys.argv[1:]))"


@contextmanager
def serving(settings: Settings, folder: Path, *, workers: int = 1, wrapper: str = "") -> Iterator[Server]:
    """A server that is ready; it is stopped at the end, whatever happens."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", 0))
    listening.listen(512)
    server = Server(settings, listening, folder / "gateway.log")
    try:
        for number in range(workers):
            server.start(f"w{number}", wrapper=wrapper)
        server.wait_ready()
        yield server
    finally:
        server.stop()
