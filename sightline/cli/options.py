"""What every command over a running platform takes: where it is, who asks, which model answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sightline.client import Client

UrlOption = Annotated[
    str | None,
    typer.Option("--url", help="Where the platform is. (env SIGHTLINE_URL)", show_default=False),
]
KeyOption = Annotated[str | None, typer.Option("--key", help="API key. (env SIGHTLINE_API_KEY)", show_default=False)]
ModelOption = Annotated[str | None, typer.Option("--model", help="Model; the platform's default when absent.")]
TruncateOption = Annotated[
    bool,
    typer.Option("--truncate/--no-truncate", help="Cut texts that are longer than the model reads, or refuse them."),
]


def connect(url: str | None, key: str | None) -> Client:
    """A client, to be closed. It is imported here: `--help` does without it."""
    from sightline.client import Client

    return Client(url, key)
