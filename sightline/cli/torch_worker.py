"""``sightline torch-worker``: run models that need PyTorch, for gateways of other machines."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sightline.cli.output import DataDirOption, settings_with


def torch_worker(
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this machine it needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8020,
    data_dir: DataDirOption = None,
) -> None:
    """Run models that need PyTorch, and nothing else. Restarts what dies; SIGTERM or Ctrl-C finishes runs in flight.

    Then: SIGHTLINE_TORCH_URL=127.0.0.1:8020 sightline serve

    A gateway on the same machine starts a worker of its own and needs no such command. Elsewhere both need the same
    SIGHTLINE_TORCH_TOKEN, and a data folder with the same models.
    """
    settings = settings_with(data_dir=data_dir)
    if "log_format" not in settings.model_fields_set and sys.stderr.isatty():
        settings = settings.model_copy(update={"log_format": "console"})

    from gateway import logs
    from services.runtime.torch_worker.process.listening import bound
    from sightline.launcher import companions
    from sightline.launcher.supervisor import Supervisor

    logs.configure(settings.log_level, settings.log_format)
    bound(host, port, settings.torch_token).close()  # what is wrong with them is said once, not at each restart
    Supervisor([companions.torch_service(settings, host, port)]).run(lambda: None, lambda: None)
