"""What an answer says of texts and labels that the model did not read whole, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sightline.cli.output import console

if TYPE_CHECKING:
    from sightline.client.reading import Note, Truncated

_SHOWN = 5


def tell_reading(what: str, texts: Sequence[str], truncated: Sequence[Truncated], notes: Sequence[Note]) -> None:
    """Print on standard error which of ``texts`` were cut, and what else is to be known of them."""
    out = console(errors=True)
    for one in truncated[:_SHOWN]:
        shown = f" ({texts[one.index][:40]!r})" if one.index < len(texts) else ""
        out.print(
            f"{what} {one.index}{shown} was cut: it has {one.tokens:,} tokens, of which the model read {one.kept:,}.",
            soft_wrap=True,
        )
    if len(truncated) > _SHOWN:
        out.print(f"{len(truncated) - _SHOWN:,} more were cut.")
    for note in notes:
        out.print(note.detail, soft_wrap=True)
