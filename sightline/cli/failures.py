"""How a failure reads: what happened, and what to do next. Never a trace, unless ``--debug`` asks for it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure in words."""

    code: str
    title: str
    detail: str
    remedy: str | None = None
    pointer: str | None = None
    request_id: str | None = None


def describe(error: Exception) -> Failure:
    """Any exception as a failure; one that nobody foresaw is a bug, and says so."""
    from pydantic import ValidationError

    from models.errors import ModelError
    from services.errors import Problem

    if isinstance(error, Problem):
        return Failure(error.code, error.title, error.detail or error.title, error.remedy, error.pointer)
    if isinstance(error, ModelError):
        return Failure("model-error", "That did not work", str(error), error.remedy or None)
    if isinstance(error, ValidationError):
        return _of_validation(error)
    if type(error).__module__.startswith("sightline.client"):
        return _of_client(error)
    if callable(explain := getattr(error, "format_message", None)):
        # Typer's own: which class they have depends on its version.
        return Failure(
            "usage", "The command line is wrong", str(explain()), "The same command with --help explains it."
        )
    if isinstance(error, OSError) and error.filename is not None:
        return Failure("file-error", "A file cannot be used", f"{error.filename}: {error.strerror}.")
    return Failure(
        "bug",
        "Something unexpected happened",
        f"{type(error).__name__}: {error}",
        "This is a bug. Run the same command as `sightline --debug ...` and report what it shows.",
    )


def _of_validation(error: Exception) -> Failure:
    from pydantic import ValidationError

    from services.settings import PREFIX

    assert isinstance(error, ValidationError)
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "?"
    if error.title not in ("Settings", "ClientSettings"):
        return Failure("invalid", f"{error.title} is not valid", f"{name}: {first['msg']}.")
    return Failure(
        "setting-invalid",
        "A setting is wrong",
        f"{name} is {first['input']!r}: {first['msg']}.",
        f"Set {PREFIX}{name.upper()}, or the option --{name.replace('_', '-')} where the command has it; "
        "`sightline settings` lists them all.",
        f"/{name}",
    )


def _of_client(error: Exception) -> Failure:
    from sightline.client.errors import APIError, SightlineError, Unreachable

    if isinstance(error, APIError):
        title = f"The platform refused: {error.title[:1].lower()}{error.title[1:]}"
        return Failure(error.code, title, error.detail, error.remedy, error.pointer, error.request_id)
    if isinstance(error, Unreachable):
        return Failure("unreachable", "The platform does not answer", str(error), error.remedy)
    assert isinstance(error, SightlineError)
    return Failure("invalid", "That cannot be sent", str(error), error.remedy)


def report(error: Exception, *, as_json: bool) -> None:
    """Tell standard error: a panel for people, one JSON object for programs."""
    failure = describe(error)
    if as_json:
        fields = {name: getattr(failure, name) for name in Failure.__slots__}
        print(
            json.dumps({"error": {name: value for name, value in fields.items() if value is not None}}), file=sys.stderr
        )
        return
    from rich.console import Console
    from rich.panel import Panel
    from rich.text import Text

    body = Text(failure.detail)
    if failure.pointer:
        body.append(f"\nWhere: {failure.pointer}")
    if failure.request_id:
        body.append(f"\nRequest: {failure.request_id}", "dim")
    if failure.remedy:
        body.append("\n\n")
        body.append(failure.remedy, "bold")
    Console(stderr=True).print(
        Panel(body, title=Text(failure.title), title_align="left", border_style="red", width=None)
    )
