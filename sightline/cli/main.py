"""The ``sightline`` command: its groups, and how a failure reads."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

from sightline.cli import (
    benchmark,
    bots,
    classify,
    datasets,
    detect,
    embed,
    jobs,
    keys,
    models,
    serve,
    settings,
    torch_worker,
    triton,
    version,
    worker,
)
from sightline.cli.failures import report

app = typer.Typer(
    name="sightline",
    help="Serve, adapt and measure language-augmented vision models over REST.",
    epilog="First steps: sightline models pull, sightline serve, sightline classify photo.jpg --labels 'a cat,a dog'",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS: dict[str, Callable[..., None]] = {
    "serve": serve.serve,
    "classify": classify.classify,
    "detect": detect.detect,
    "ground": detect.ground,
    "embed": embed.embed,
    "worker": worker.worker,
    "torch-worker": torch_worker.torch_worker,
    "settings": settings.settings,
    "version": version.version,
}
"""One function each. A new task is a file with its command, and a row here."""

GROUPS = {
    "models": models.app,
    "datasets": datasets.app,
    "keys": keys.app,
    "jobs": jobs.app,
    "triton": triton.app,
    "benchmark": benchmark.app,
    "bots": bots.app,
}
"""Several commands each, under a name."""

for name, command in COMMANDS.items():
    app.command(name)(command)
for name, group in GROUPS.items():
    app.add_typer(group, name=name)


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="On a failure, show Python's trace of it.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=version.short, help="The version, in one line.")
    ] = False,
) -> None:
    """Options that every command has; :func:`main` looks at ``--debug`` itself."""


def main() -> NoReturn:
    """Run the command of ``sys.argv``. Exit code 1 is a failure that the message explains, 2 a wrong command line."""
    arguments = sys.argv[1:]
    as_json = "--json" in arguments
    try:
        # Typer explains a wrong command line to people; programs get it as they get every failure.
        code = app(standalone_mode=not as_json)
    except BrokenPipeError:
        # Whoever read the output has seen enough (`| head`); what Python still wants to flush goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if "--debug" in arguments:
            raise
        report(error, as_json=as_json)
        sys.exit(getattr(error, "exit_code", 1))

    sys.exit(code)
