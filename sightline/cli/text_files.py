"""Text files that are named on the command line."""

from __future__ import annotations

from pathlib import Path

import typer

from models.text_files import UnreadableText, decode_text


def read_text_file(file: Path) -> str:
    """The text of ``file``, whatever mark or encoding its editor wrote. Raises what makes a usage error."""
    try:
        return decode_text(file.read_bytes())
    except UnreadableText as error:
        raise typer.BadParameter(f"{file} is no text: {error}") from None
