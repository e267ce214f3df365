"""``sightline keys``: who may call the platform."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.output import DataDirOption, JsonOption, console, print_json, settings_with, table

if TYPE_CHECKING:
    from pathlib import Path

    from services.storage.keys import KeyStore

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)


class Scope(StrEnum):
    infer = "infer"
    jobs = "jobs"
    admin = "admin"


@app.command()
def create(
    name: Annotated[str, typer.Option(help="Whose key it is, for the list.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What it may do; repeat for several. admin may do everything. (infer)"),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Requests a second; the platform's own limit when absent.", show_default=False)
    ] = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Make a key. It is shown once, and only its hash is kept."""
    with _keys(data_dir) as keys:
        key, secret = keys.create(name, [entry.value for entry in scope or [Scope.infer]], rate)

    if json:
        print_json(asdict(key) | {"secret": secret})
        return

    print(secret)  # alone on standard output, for KEY=$(sightline keys create ...)
    console(errors=True).print(
        f"Key {key.id} of {key.name}, scopes {', '.join(key.scopes)}. It is not shown again; "
        "send it as `Authorization: Bearer <key>`, or set SIGHTLINE_API_KEY.",
        style="dim",
    )


@app.command("list")
def list_keys(data_dir: DataDirOption = None, json: JsonOption = False) -> None:
    """Every key, without its secret."""
    with _keys(data_dir) as keys:
        found = keys.list()

    if json:
        print_json([asdict(key) for key in found])
        return

    if not found:
        console().print("No keys yet: sightline keys create --name NAME")
        return

    rows = [
        (
            key.id,
            key.name,
            f"{key.prefix}…",
            ", ".join(key.scopes),
            "" if key.rate is None else f"{key.rate:g}",
            _date(key.created_at),
            "" if key.revoked_at is None else _date(key.revoked_at),
        )
        for key in found
    ]
    table(("id", "name", "begins with", "scopes", "requests/s", "created", "revoked"), rows, right=("requests/s",))


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The id that `sightline keys list` shows.")],
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Refuse a key from now on; a running server follows within seconds."""
    with _keys(data_dir) as keys:
        key = keys.revoke(key_id)
    if json:
        print_json(asdict(key))
        return
    console().print(f"Revoked {key.id} of {key.name}.")


@contextmanager
def _keys(data_dir: Path | None) -> Iterator[KeyStore]:
    from services.storage.database import connect, upgrade
    from services.storage.keys import KeyStore

    settings = settings_with(data_dir=data_dir)
    upgrade(settings.database)
    engine = connect(settings.database)
    try:
        yield KeyStore(engine)
    finally:
        engine.dispose()


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
