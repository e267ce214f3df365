"""What the platform is made of besides gateways: the broker, maintenance of jobs, a worker for each queue."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from services.jobs import broker
from services.settings import Settings, child_environment
from sightline.launcher.process import Process

BROKER_STAGE = 0
TORCH_STAGE = 5
"""Before the gateways, which use it: so it also stops after them."""

JOBS_STAGE = 20
"""After the gateways, which jobs call; so jobs also stop first."""

_STOP_MARGIN = 5.0


def private_broker(settings: Settings) -> tuple[Settings, list[Process]]:
    """The platform's own broker, unless another is named; and the settings with the address of whichever it is."""
    if settings.redis_url is not None:
        return settings, []
    made = broker.private(settings)
    process = Process(
        name="broker",
        argv=made.argv,
        environment=child_environment(settings, defaults={}, fixed={}),
        stage=BROKER_STAGE,
        ready=made.ready,
    )
    return settings.model_copy(update={"redis_url": made.url}), [process]


def torch_worker(settings: Settings, descriptor: int) -> Process:
    """Runs models that need PyTorch; started when a gateway connects to the listening socket ``descriptor``."""
    return Process(
        name="torch-worker",
        argv=(sys.executable, "-m", "sightline.launcher.background", "torch-worker", "--fd", str(descriptor)),
        environment=child_environment(settings, defaults={}, fixed={}),
        stage=TORCH_STAGE,
        grace=settings.drain_seconds + _STOP_MARGIN,
        descriptors=(descriptor,),
        on_demand=descriptor,
    )


def torch_service(settings: Settings, host: str, port: int) -> Process:
    """The same for gateways of other machines: it listens itself, from the start."""
    address = ("--host", host, "--port", str(port))
    grace = settings.drain_seconds + _STOP_MARGIN
    return _background(settings, "torch-worker", ["torch-worker", *address], grace=grace)


def maintenance(settings: Settings) -> Process:
    """Describe the process that dispatches jobs and takes them from the dead."""
    return _background(settings, "maintenance", ["maintenance"], grace=settings.drain_seconds)


def workers(settings: Settings, queues: Sequence[str], concurrency: int | None = None) -> list[Process]:
    """One worker for each of ``queues``; told to stop, they hand their jobs back."""
    more = [] if concurrency is None else ["--concurrency", str(concurrency)]
    grace = settings.drain_seconds + _STOP_MARGIN
    return [_background(settings, f"worker-{q}", ["worker", "--queue", q, *more], grace=grace) for q in queues]


def _background(settings: Settings, name: str, arguments: Sequence[str], *, grace: float) -> Process:
    return Process(
        name=name,
        argv=(sys.executable, "-m", "sightline.launcher.background", *arguments),
        environment=child_environment(settings, defaults={}, fixed={}),
        stage=JOBS_STAGE,
        grace=grace,
    )
