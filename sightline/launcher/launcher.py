"""Starts the platform on one machine and keeps it up: sockets, gateway workers, and whatever else it is made of."""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
import time
from collections.abc import Callable
from importlib.metadata import distributions
from urllib.parse import urlsplit

from gateway import LAME_DUCK_SIGNAL, telemetry
from services.errors import Kind, Problem
from services.jobs import broker
from services.runtime.torch_worker import endpoint
from services.settings import Settings, child_environment
from sightline.launcher import companions
from sightline.launcher.aside import aside
from sightline.launcher.listening import Listeners, is_loopback
from sightline.launcher.process import Process
from sightline.launcher.rundir import RunDir, ServerInfo, held
from sightline.launcher.supervisor import Supervisor

GATEWAY_STAGE = 10
"""What the gateway needs comes in lower stages, what needs the gateway in higher ones."""

_START_SECONDS = 120.0

_STOP_MARGIN = 5.0
"""Seconds that a worker gets on top of its own drain before it is killed."""

_log = logging.getLogger("sightline.launcher")


class Launcher:
    """One server on one data directory."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def run(self, on_ready: Callable[[ServerInfo], None]) -> None:
        """Serve until SIGTERM, SIGINT or SIGHUP, then drain. A second SIGINT does not wait for requests in flight.

        Raises :class:`services.errors.Problem` when the platform cannot start; nothing of it runs then.
        """
        settings = self._settings
        check_engines()
        check_exposure(settings)

        with held(settings.run_dir) as run_dir:
            telemetry.clear(run_dir.metrics)
            listeners = Listeners.open(settings.host, settings.port, settings.workers)
            torch = None if settings.torch_url is not None else endpoint.listen(settings.run_dir / endpoint.SOCKET)
            try:
                aside(
                    "sightline.launcher.database:upgrade", settings
                )  # once here, not by each process at the same moment
                self._supervise(run_dir, listeners, torch, on_ready)
            finally:
                listeners.close()
                if torch is not None:
                    torch.close()
                telemetry.clear(run_dir.metrics)
                broker.clear(settings)
                (settings.run_dir / endpoint.SOCKET).unlink(missing_ok=True)

    def _supervise(
        self,
        run_dir: RunDir,
        listeners: Listeners,
        torch: socket.socket | None,
        on_ready: Callable[[ServerInfo], None],
    ) -> None:
        processes = [self._gateway(run_dir, listeners, worker) for worker in range(self._settings.workers)]
        if torch is not None:
            processes.append(companions.torch_worker(self._settings, torch.fileno()))
        supervisor = Supervisor([*processes, *self._companions(listeners.url)])

        def ready() -> None:
            info = ServerInfo(os.getpid(), listeners.url, self._settings.workers, time.time())
            run_dir.announce(info)
            on_ready(info)

        def before_stop() -> None:
            run_dir.withdraw()
            # The workers have their own copies; with these open, connections would queue up that nobody takes.
            listeners.close()

        supervisor.run(ready, before_stop)

    def _companions(self, url: str) -> list[Process]:
        if not self._settings.jobs:
            return []
        settings, processes = companions.private_broker(self._settings)
        if settings.gateway_url is None:
            settings = settings.model_copy(update={"gateway_url": url})
        return [*processes, companions.maintenance(settings), *companions.workers(settings, settings.queues)]

    def _gateway(self, run_dir: RunDir, listeners: Listeners, worker: int) -> Process:
        settings, place = self._settings, f"w{worker}"

        def died(code: int) -> None:
            try:
                telemetry.retire(run_dir.metrics, place)
                telemetry.count_restart(run_dir.metrics)
                listeners.renew(worker)
            except (OSError, Problem) as error:
                # A full disk or an empty pool of descriptors is no reason to leave the worker dead.
                _log.error("After the death of gateway-%d: %s", worker, error)

        descriptor = listeners.descriptor(worker)
        return Process(
            name=f"gateway-{worker}",
            argv=(sys.executable, "-m", "gateway", "--fd", str(descriptor), "--worker", place),
            environment=child_environment(settings, defaults=_defaults(settings.workers), fixed={}),
            stage=GATEWAY_STAGE,
            ready=lambda: listeners.accepts(worker) and _says_ready(listeners.url),
            # Servers of models may be away for as long as they like: it is ready when they are back.
            start_timeout=math.inf if settings.runtime == "triton" else _START_SECONDS,
            lame_duck_signal=LAME_DUCK_SIGNAL,
            grace=settings.lame_duck_seconds + settings.drain_seconds + _STOP_MARGIN,
            descriptors=(descriptor,),
            died=died,
        )


def check_engines() -> None:
    """Refuse to run with both builds of ONNX Runtime: they share one module, and the last one installed wins."""
    both = {"onnxruntime", "onnxruntime-gpu"}
    found = {(distribution.metadata["Name"] or "").lower() for distribution in distributions()}
    if both <= found:
        raise Problem(
            Kind.CONFLICT,
            "engines-conflict",
            "Two builds of ONNX Runtime are installed",
            "onnxruntime and onnxruntime-gpu overwrite each other's files; which of them runs is chance.",
            remedy="pip uninstall -y onnxruntime onnxruntime-gpu, then install one: "
            "pip install 'sightline[cpu]' or pip install 'sightline[gpu]'.",
        )


def check_exposure(settings: Settings) -> None:
    """Refuse to let the network in where nobody is asked for a key."""
    if is_loopback(settings.host) or settings.auth == "required":
        return
    if settings.auth == "auto" and aside("sightline.launcher.database:has_key", settings):
        return

    off = settings.auth == "off"
    raise Problem(
        Kind.FORBIDDEN,
        "exposed-without-key",
        "Anybody could use the platform",
        f"{settings.host} can be reached by other machines, and "
        + ("keys are switched off (auth is off)." if off else "there is no API key yet."),
        remedy=("Set SIGHTLINE_AUTH=auto and make a key" if off else "Make a key first")
        + ": sightline keys create --name first --scope admin. Or bind 127.0.0.1.",
    )


def _defaults(workers: int) -> dict[str, str]:
    """One worker may use every core for NumPy's products, several share them: more threads than cores only wait."""
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // workers))}


def _says_ready(url: str) -> bool:
    """Ask ``/readyz`` over a plain socket: an HTTP library would bring TLS, and the launcher lives as long as we do."""
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname, parts.port), timeout=0.5) as connection:
            connection.sendall(f"GET /readyz HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode())
            return connection.recv(16).split()[1:2] == [b"200"]
    except OSError:
        return False
