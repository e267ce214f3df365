"""``sightline triton up``: a tritonserver and its watchdog, kept running until told to stop."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from models.repository.config_files import refresh_configs
from services.errors import Kind, Problem
from services.settings import Settings, child_environment
from sightline.launcher.process import Process
from sightline.launcher.rundir import held
from sightline.launcher.supervisor import Supervisor
from sightline.triton import shared_memory
from sightline.triton.installation import Installation, find
from sightline.triton.server import Ports, Server, check_free, lives

WATCHDOG_STAGE = 1


@dataclass(frozen=True, slots=True)
class Up:
    """Where a running server is."""

    http: str
    grpc: str
    metrics: str
    watchdog: str
    device: str
    runs: str
    """``native`` or ``python``: what runs the models."""


def up(settings: Settings, host: str, ports: Ports, gpu: bool | None, on_ready: Callable[[Up], None]) -> None:
    """Serve the repository until SIGTERM, SIGINT or SIGHUP. ``gpu`` ``None`` is whatever this machine has.

    Raises :class:`services.errors.Problem` when it cannot start; nothing of it runs then.
    """
    installation = find(settings)
    use_gpu = choose_device(installation, gpu, has_gpu())
    check_free(host, ports)
    settings.models_dir.mkdir(parents=True, exist_ok=True)
    # Servers of one data folder are replicas, on one machine or on several: each has a folder of its own.
    folder = settings.run_dir / f"triton-{socket.gethostname()}-{ports.grpc}"
    with held(folder) as run_dir:
        refresh_configs(settings.models_dir)
        shared_memory.clean()
        server = Server(settings, installation, run_dir.path, ports, host, use_gpu)
        where = Up(
            http=f"http://{server.reach}:{ports.http}",
            grpc=f"{server.reach}:{ports.grpc}",
            metrics=f"http://{server.reach}:{ports.metrics}/metrics",
            watchdog=f"http://{server.reach}:{ports.watch}/metrics",
            device="gpu" if use_gpu else "cpu",
            runs="native" if installation.native else "python",
        )
        try:
            Supervisor([server.process(), watchdog(server)]).run(lambda: on_ready(where), lambda: None)
        finally:
            shared_memory.clean((server.region,), fresh=0.0)
            shutil.rmtree(folder / "backends", ignore_errors=True)

    with suppress(OSError):
        folder.rmdir()


def watchdog(server: Server) -> Process:
    """The watchdog as a supervised process; it is ready when it has looked at every model once."""
    arguments = [
        f"--binary={server.installation.binary}",
        f"--url=http://{server.reach}:{server.ports.http}",
        f"--region={server.region}",
        f"--host={server.host}",
        f"--metrics-port={server.ports.watch}",
    ]
    return Process(
        name="triton-watchdog",
        argv=(sys.executable, "-m", "sightline.triton", *arguments),
        environment=child_environment(server.settings, defaults={}, fixed={}),
        stage=WATCHDOG_STAGE,
        ready=lambda: lives(server.reach, server.ports.watch, "/metrics"),
    )


def has_gpu(devices: Sequence[Path] = (Path("/dev/nvidiactl"), Path("/dev/dxg"))) -> bool:
    """Return whether the system shows an NVIDIA GPU to this process."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0") not in ("", "-1") and any(path.exists() for path in devices)


def choose_device(installation: Installation, asked: bool | None, there: bool) -> bool:
    """Return whether models run on GPUs: as asked, else where there is a GPU and a server that can use it."""
    if not asked:
        return asked is None and there and installation.native
    if not there:
        raise Problem(
            Kind.UNAVAILABLE,
            "gpu-missing",
            "There is no GPU to use",
            "This machine shows no NVIDIA device.",
            remedy="Leave --gpu out, or start the container with a GPU (docker run --gpus all).",
        )

    if not installation.native:
        raise Problem(
            Kind.UNAVAILABLE,
            "triton-unusable",
            "This tritonserver cannot use the GPU",
            f"{installation.binary} has no native ONNX Runtime backend: it runs models in Python, on processors.",
            remedy="Use NVIDIA's container (profile gpu of docker-compose.yml), or --cpu.",
        )

    return True
