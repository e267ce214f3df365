"""``sightline settings``: every setting, its variable, and what it is now."""

from __future__ import annotations

from sightline.cli.output import JsonOption, print_json, table


def settings(json: JsonOption = False) -> None:
    """Every setting: its environment variable, its value now, its meaning."""
    from rich.text import Text

    from services.settings import PREFIX, Settings

    current = Settings()
    values = current.model_dump(mode="json")
    for name, field in Settings.model_fields.items():
        if not field.repr and values[name] is not None:
            values[name] = "***"
    if json:
        print_json({PREFIX + name.upper(): value for name, value in values.items()})
        return
    rows = []
    for name, field in Settings.model_fields.items():
        shown = "" if values[name] in (None, []) else _hide_password(str(values[name]))
        rows.append(
            (
                PREFIX + name.upper(),
                Text(shown, "bold" if name in current.model_fields_set else ""),
                field.description or "",
            )
        )
    table(("variable", "now", "meaning"), rows)


def _hide_password(value: str) -> str:
    """``postgresql://user:***@host/name``: settings get pasted into reports."""
    scheme, separator, rest = value.partition("://")
    credentials, at, host = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return f"{scheme}{separator}{user}:***@{host}" if separator and at and colon else value
