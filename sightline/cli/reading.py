"""What an answer says of texts and labels that the model did not read whole, for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol

from sightline.cli.output import console

if TYPE_CHECKING:
    from sightline.client import Note, Truncated

_SHOWN = 5


class Answer(Protocol):
    """An answer about texts."""

    @property
    def truncated(self) -> tuple[Truncated, ...]: ...

    @property
    def notes(self) -> tuple[Note, ...]: ...


class Reading:
    """Tells of ``texts`` on standard error, once for all answers that say the same."""

    def __init__(self, what: str, texts: Sequence[str]) -> None:
        self._what = what
        self._texts = texts
        self._told: set[tuple[tuple[Truncated, ...], tuple[Note, ...]]] = set()
        self._latest: Answer | None = None

    def tell(self, answer: Answer) -> None:
        """Print which texts were cut, and what else is to be known of them."""
        self._latest = answer
        if (answer.truncated, answer.notes) in self._told:
            return
        self._told.add((answer.truncated, answer.notes))

        out = console(errors=True)
        for one in answer.truncated[:_SHOWN]:
            shown = f" ({self._texts[one.index][:40]!r})" if one.index < len(self._texts) else ""
            out.print(
                f"{self._what} {one.index}{shown} was cut: it has {one.tokens:,} tokens, of which the model read "
                f"{one.kept:,}.",
                soft_wrap=True,
            )
        if len(answer.truncated) > _SHOWN:
            out.print(f"{len(answer.truncated) - _SHOWN:,} more were cut.")
        for note in answer.notes:
            out.print(note.detail, soft_wrap=True)

    def document(self) -> dict[str, object]:
        """The same of the latest answer for programs: fields that are there only where there is something to say."""
        said: dict[str, object] = {}
        if self._latest is not None and self._latest.truncated:
            said["truncated"] = [asdict(one) for one in self._latest.truncated]
        if self._latest is not None and self._latest.notes:
            said["notes"] = [asdict(one) for one in self._latest.notes]
        return said
