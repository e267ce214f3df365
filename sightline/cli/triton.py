"""``sightline triton``: a local tritonserver for the repository, and whether it would be told the truth."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.output import DataDirOption, JsonOption, console, print_json, settings_with, table

if TYPE_CHECKING:
    from sightline.triton.running import Up

app = typer.Typer(help="Run a local tritonserver for the models, or check what it would be told.", no_args_is_help=True)

DEFAULT_PORT = 8010
"""Not Triton's own 8000, which is the gateway's."""


@app.command()
def up(
    host: Annotated[str, typer.Option(help="Address to listen on; Triton asks nobody for a key.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="HTTP, and the first of four in a row unless the others are named; 0: free ones.", min=0)
    ] = DEFAULT_PORT,
    grpc_port: Annotated[int | None, typer.Option(help="gRPC.  [default: the next one]", show_default=False)] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Triton's metrics.  [default: the one after]", show_default=False)
    ] = None,
    watchdog_port: Annotated[
        int | None, typer.Option(help="The watchdog's metrics.  [default: the one after]", show_default=False)
    ] = None,
    gpu: Annotated[
        bool | None,
        typer.Option("--gpu/--cpu", help="Run models on GPUs or not.  [default: where both can]", show_default=False),
    ] = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Start a tritonserver for the model repository, watch it, and repair what dies in it.

    Then: SIGHTLINE_RUNTIME=triton SIGHTLINE_TRITON_URLS=127.0.0.1:8011 sightline serve

    SIGTERM or Ctrl-C stops it once the inferences in flight are done.
    """
    settings = settings_with(data_dir=data_dir)
    if "log_format" not in settings.model_fields_set and sys.stderr.isatty():
        settings = settings.model_copy(update={"log_format": "console"})

    from gateway import logs
    from sightline.triton.running import up as run
    from sightline.triton.server import Ports

    logs.configure(settings.log_level, settings.log_format)
    first = Ports.starting_at(port)
    ports = Ports(first.http, grpc_port or first.grpc, metrics_port or first.metrics, watchdog_port or first.watch)
    run(settings, host, ports, gpu, lambda where: _announce(where, as_json=json))


@app.command()
def check(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Models; all when absent.")] = None,
    fix: Annotated[bool, typer.Option("--fix", help="First write again each config.pbtxt that is not right.")] = False,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Compare each config.pbtxt, card and ONNX file; exit code 1 when something would not be served right."""
    from models.repository.config_files import refresh_configs
    from sightline.triton.checking import check as check_models

    settings = settings_with(data_dir=data_dir)
    fixed = refresh_configs(settings.models_dir) if fix else []
    checked = check_models(settings, names)
    if json:
        print_json(
            [
                {
                    "name": one.name,
                    "ok": one.ok,
                    "served": one.served,
                    "versions": one.versions,
                    "fixed": one.name in fixed,
                    "problems": one.problems,
                }
                for one in checked
            ]
        )
    else:
        from rich.text import Text

        verdicts = {True: Text("ok", "green"), False: Text("wrong", "red")}
        table(
            ("name", "verdict", "versions", "details"),
            [
                (
                    one.name,
                    verdicts[one.ok] if one.served or not one.ok else Text("by the gateway", "dim"),
                    ", ".join(one.versions),
                    "\n".join(one.problems) or ("written again" if one.name in fixed else ""),
                )
                for one in checked
            ],
        )
    if not all(one.ok for one in checked):
        raise typer.Exit(1)


def _announce(where: Up, *, as_json: bool) -> None:
    """Say that it runs, and where."""
    if as_json:
        from dataclasses import asdict

        print_json(asdict(where))
        return
    if not sys.stderr.isatty():
        import logging

        logging.getLogger("sightline.triton").info("Triton serves %s, on %s", where.grpc, where.device)
        return
    from rich.panel import Panel
    from rich.text import Text

    body = Text.assemble(
        ("gRPC      ", "dim"),
        (where.grpc, "bold"),
        ("\nHTTP      ", "dim"),
        where.http,
        ("\nMetrics   ", "dim"),
        where.metrics,
        ("\nWatchdog  ", "dim"),
        where.watchdog,
        ("\nModels    ", "dim"),
        f"run {'in Triton' if where.runs == 'native' else 'in Python'}, on {where.device.upper()}",
        ("\nGateway   ", "dim"),
        f"SIGHTLINE_RUNTIME=triton SIGHTLINE_TRITON_URLS={where.grpc} sightline serve",
    )
    console(errors=True).print(Panel(body, title="Triton serves", title_align="left", border_style="green"))
