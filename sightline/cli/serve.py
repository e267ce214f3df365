"""``sightline serve``: start the platform on this machine and keep it up."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.output import DataDirOption, console, settings_with

if TYPE_CHECKING:
    from services.settings import Settings
    from sightline.launcher.rundir import ServerInfo


class LogFormat(StrEnum):
    json = "json"
    console = "console"


class LogLevel(StrEnum):
    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


class Auth(StrEnum):
    auto = "auto"
    required = "required"
    off = "off"


def serve(
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on; 0.0.0.0 is every network. (127.0.0.1)", show_default=False),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port; 0 finds a free one. (8000)", min=0, max=65535, show_default=False),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Gateway processes. (1)", min=1, max=256, show_default=False)
    ] = None,
    data_dir: DataDirOption = None,
    log_format: Annotated[
        LogFormat | None, typer.Option(help="Form of the log (console on a terminal, else json).", show_default=False)
    ] = None,
    log_level: Annotated[LogLevel | None, typer.Option(help="How much to log (info).", show_default=False)] = None,
    auth: Annotated[
        Auth | None,
        typer.Option(help="Who needs a key: auto, once a key exists. (auto)", show_default=False),
    ] = None,
) -> None:
    """Start the platform: REST under /v1, Open Inference Protocol under /v2, documentation under /docs.

    Every option is also an environment variable; `sightline settings` lists these and more.

    SIGTERM or Ctrl-C lets the requests in flight finish first.
    """
    settings = settings_with(
        host=host,
        port=port,
        workers=workers,
        data_dir=data_dir,
        log_format=log_format and log_format.value,
        log_level=log_level and log_level.value,
        auth=auth and auth.value,
    )
    if "log_format" not in settings.model_fields_set and sys.stderr.isatty():
        settings = settings.model_copy(update={"log_format": "console"})

    from gateway import logs
    from sightline.launcher.launcher import Launcher

    logs.configure(settings.log_level, settings.log_format)
    Launcher(settings).run(lambda info: _announce(settings, info))


def _announce(settings: Settings, info: ServerInfo) -> None:
    """Say that it runs, where, and how to try it."""
    if settings.log_format == "json":
        import logging

        logging.getLogger("sightline.launcher").info(
            "Serving on %s", info.url, extra={"event": "ready", "url": info.url, "workers": info.workers}
        )
        return
    from rich.panel import Panel
    from rich.text import Text

    body = Text.assemble(
        ("Address        ", "dim"),
        (info.url, "bold"),
        ("\nDocumentation  ", "dim"),
        f"{info.url}/docs" if settings.docs else "switched off",
        ("\nData           ", "dim"),
        str(settings.data_dir),
        ("\nKeys           ", "dim"),
        {
            "auto": "needed once one exists (sightline keys create)",
            "required": "needed for every request",
            "off": "not asked for",
        }[settings.auth],
        ("\nTry            ", "dim"),
        f"sightline classify photo.jpg --labels 'a cat,a dog' --url {info.url}",
    )
    if not any(settings.models_dir.glob("*/*/card.json")):
        body.append("\n\nThere are no models yet: sightline models pull", "bold yellow")
    console(errors=True).print(Panel(body, title="Sightline serves", title_align="left", border_style="green"))
