"""How a tritonserver is started for a repository: its addresses, its arguments, its variables."""

from __future__ import annotations

import http.client
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from services.errors import Kind, Problem
from services.settings import Settings, child_environment
from sightline.launcher.process import Process
from sightline.triton.installation import Installation

EXIT_SECONDS = 5
"""Triton's own patience when told to stop: requests in flight, then models."""

STOP_SECONDS = 15.0
"""After a repaired model it takes some seconds longer than its patience (measured: 7.6 s)."""

START_SECONDS = 600.0
"""Large models take long to load, and it answers only once all are."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What one server listens on; ``watch`` is where its watchdog tells its metrics."""

    http: int
    grpc: int
    metrics: int
    watch: int

    @staticmethod
    def starting_at(port: int) -> Ports:
        """Four in a row; with 0 four free ones."""
        if port:
            return Ports(port, port + 1, port + 2, port + 3)
        with ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(4)]
            for one in sockets:
                one.bind(("127.0.0.1", 0))
            return Ports(*(int(one.getsockname()[1]) for one in sockets))


@dataclass(frozen=True, slots=True)
class Server:
    """One tritonserver for ``settings.models_dir``. ``folder`` is its own, for what it needs while it runs."""

    settings: Settings
    installation: Installation
    folder: Path
    ports: Ports
    host: str = "127.0.0.1"
    gpu: bool = False

    @property
    def reach(self) -> str:
        """The address at which this machine itself reaches the server."""
        return "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host  # noqa: S104

    @property
    def region(self) -> str:
        """How the names of its shared memory begin: nobody else's do."""
        return f"sightline_triton_{self.ports.grpc}_"

    @property
    def argv(self) -> list[str]:
        """Nothing is loaded twice, nothing is polled: what is served is said through the repository API."""
        ports = self.ports
        return [
            str(self.installation.binary),
            f"--model-repository={self.settings.models_dir}",
            f"--backend-directory={self.installation.backend_directory(self.folder / 'backends')}",
            "--model-control-mode=explicit",
            "--load-model=*",
            # Configurations are whole. Completing them would start each model's process once more at each load.
            "--disable-auto-complete-config",
            # One damaged model must not keep the others from being served.
            "--exit-on-error=false",
            "--strict-readiness=false",
            f"--http-address={self.host}",
            f"--grpc-address={self.host}",
            f"--metrics-address={self.host}",
            f"--http-port={ports.http}",
            f"--grpc-port={ports.grpc}",
            f"--metrics-port={ports.metrics}",
            f"--exit-timeout-secs={EXIT_SECONDS}",
            "--backend-config=python,shm-default-byte-size=1048576",
            "--backend-config=python,shm-growth-byte-size=1048576",
            f"--backend-config=python,shm-region-prefix-name={self.region}",
            *([] if self.gpu else ["--pinned-memory-pool-byte-size=0"]),
        ]

    @property
    def environment(self) -> dict[str, str]:
        """Without GPUs the server is shown none, so that ``KIND_AUTO`` means the processor."""
        hidden = {} if self.gpu else {"CUDA_VISIBLE_DEVICES": ""}
        return child_environment(self.settings, defaults={}, fixed={**self.installation.environment, **hidden})

    def process(self) -> Process:
        """The server as a supervised process. Ready: it answers, having tried to load everything."""
        return Process(
            name="tritonserver",
            argv=self.argv,
            environment=self.environment,
            ready=lambda: lives(self.reach, self.ports.http),
            start_timeout=START_SECONDS,
            grace=STOP_SECONDS,
        )


def lives(host: str, port: int, path: str = "/v2/health/live", seconds: float = 1.0) -> bool:
    """Return whether what listens there answers."""
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def check_free(host: str, ports: Ports) -> None:
    """Refuse at once when a port is taken: Triton would load every model first. Raises ``port-taken``."""
    for port in (ports.http, ports.grpc, ports.metrics, ports.watch):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise Problem(
                    Kind.CONFLICT,
                    "port-taken",
                    "A port that Triton would use is taken",
                    f"{host}:{port}: {error.strerror}.",
                    remedy="Name another first port with --port; four in a row are used. 0 finds free ones.",
                ) from error
