"""How an upload of a data set is to be imported: by its query, or by the fields of its form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from gateway.request.fields import Flag, wrong
from services.errors import Kind, Problem

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


@dataclass(frozen=True, slots=True)
class Options:
    """How an upload is to be imported, as the query or the fields of its form say."""

    name: str | None
    strict: bool
    layout: str | None
    allow_losses: bool


def with_fields(options: Options, fields: Mapping[str, str]) -> Options:
    """``options`` with the fields of a form, as other services take them. Raises ``field-*`` and ``name-missing``."""
    for key, text in fields.items():
        if key not in ("name", "strict", "layout", "allow_losses"):
            wrong(
                "field-unknown",
                "A field is not known",
                f"There is no field {key[:100]!r}.",
                f"/{key[:100]}",
                "Known fields: file, name, strict, layout, allow_losses.",
            )
        value: str | bool = text
        if key in ("strict", "allow_losses"):
            value = Flag().check(Flag().parse([text], f"/{key}"), f"/{key}")
        options = replace(options, **{key: value})  # type: ignore[arg-type]

    if options.name is None:
        raise no_name()
    if not re.fullmatch(NAME, options.name):
        wrong(
            "field-value",
            "The name is not allowed",
            f"{options.name[:100]!r} cannot be the name of a data set.",
            "/name",
            "Use letters, digits, dots, hyphens and underscores, 100 at most, and begin with a letter or digit.",
        )
    return options


def no_name() -> Problem:
    """Say that nothing names the data set."""
    return Problem(
        Kind.INVALID,
        "name-missing",
        "The data set has no name",
        "Nothing says what the data set is to be called.",
        pointer="/name",
        remedy="Send ?name=NAME, or a field `name` beside `file` in the form.",
    )
