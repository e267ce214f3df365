"""Runs a real tritonserver over a repository, alone: no watchdog repairs it, nobody starts it again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from services.settings import Settings
from sightline.triton.installation import find
from sightline.triton.server import Ports, Server, lives
from tests.support.serving import alive, children, command, eventually


class TritonServer:
    """One server, on ports that stay its own over :meth:`stop` and :meth:`start`."""

    def __init__(self, repository: Path, folder: Path, environment: Mapping[str, str]) -> None:
        data = folder / "data"
        data.mkdir(parents=True)
        # The repository may have any name; that of a data folder does not.
        (data / "models").symlink_to(repository.resolve())
        self.log = folder / "log"
        self.ports = Ports.starting_at(0)
        self._server = Server(Settings(data_dir=data), find(Settings()), folder, self.ports)
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.ports.grpc}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports.http}"

    @property
    def metrics(self) -> str:
        return f"http://127.0.0.1:{self.ports.metrics}/metrics"

    @property
    def region(self) -> str:
        return self._server.region

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")[-6000:]

    def start(self, *, wait: bool = True) -> None:
        """Start it; ``wait`` until it answers, having loaded every model that can be loaded."""
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                self._server.argv,
                env={**self._server.environment, **self._environment},
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )
        if wait:
            self.await_live()

    def await_live(self, seconds: float = 180) -> None:
        def answers() -> bool:
            assert self._process is not None and self._process.poll() is None, self.said
            return lives("127.0.0.1", self.ports.http)

        eventually(answers, seconds)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)

    def kill(self) -> None:
        """SIGKILL; its stubs notice by themselves."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stubs(self, model: str) -> list[int]:
        """Process ids of a model's instances."""
        return [pid for pid in children(self.pid) if f"/{model}/" in command(pid)]

    def states(self) -> dict[str, str]:
        """``{"model/version": state}`` of the repository index."""
        index = httpx.post(f"{self.url}/v2/repository/index", timeout=5).json()
        return {f"{one['name']}/{one['version']}": one["state"] for one in index if "version" in one}

    def close(self) -> None:
        """Kill it and what it leaves."""
        if self._process is not None and self._process.poll() is None:
            below = children(self.pid)
            self.kill()
            eventually(lambda: not any(alive(pid) for pid in below), 20)
        for left in Path("/dev/shm").glob(f"{self.region}*"):
            left.unlink(missing_ok=True)


@contextmanager
def triton(repository: Path, environment: Mapping[str, str] | None = None) -> Iterator[TritonServer]:
    """A server that is ready. Several over one repository are replicas."""
    folder = Path(tempfile.mkdtemp(prefix="triton-"))
    server = TritonServer(repository, folder, environment or {})
    try:
        server.start()
        yield server
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)
