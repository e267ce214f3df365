"""``sightline worker``: run jobs on this machine for a platform that runs elsewhere."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from sightline.cli.output import DataDirOption, settings_with


class Queue(StrEnum):
    batch = "batch"
    finetune = "finetune"
    benchmark = "benchmark"
    default = "default"


def worker(
    queue: Annotated[list[Queue], typer.Option("--queue", "-q", help="Which jobs to run; repeat for several.")],
    concurrency: Annotated[
        int | None, typer.Option(help="Jobs at once, of each queue.  [default: 1]", min=1, max=256, show_default=False)
    ] = None,
    data_dir: DataDirOption = None,
) -> None:
    """Run jobs, and nothing else. Restarts what dies; SIGTERM or Ctrl-C hands running jobs back to their queue.

    On another machine than the platform it needs SIGHTLINE_DATABASE_URL (PostgreSQL), SIGHTLINE_REDIS_URL,
    SIGHTLINE_ARTIFACT_URL (an object store, or a shared folder) and SIGHTLINE_GATEWAY_URL.
    """
    settings = settings_with(data_dir=data_dir)
    if "log_format" not in settings.model_fields_set and sys.stderr.isatty():
        settings = settings.model_copy(update={"log_format": "console"})

    from gateway import logs
    from services.jobs import broker
    from services.storage import database
    from sightline.launcher import companions
    from sightline.launcher.rundir import read_server
    from sightline.launcher.supervisor import Supervisor

    logs.configure(settings.log_level, settings.log_format)
    known: dict[str, str] = {"redis_url": broker.url_of(settings)}
    if settings.gateway_url is None and (server := read_server(settings.run_dir)) is not None:
        known["gateway_url"] = server.url
    settings = settings.model_copy(update=known)
    database.upgrade(settings.database)
    names = list(dict.fromkeys(one.value for one in queue))
    Supervisor(companions.workers(settings, names, concurrency)).run(lambda: None, lambda: None)
