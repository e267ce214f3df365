"""What answers say of texts that were not read whole: the same form in every task."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from gateway.request.body import Answer
from services.encoding.reading import Reading


class Note(Answer):
    """Something that whoever asked should know; the answer stands all the same."""

    code: str = Field(description="Stable", examples=["labels-alike"])
    detail: str = Field(description="For people")
    indices: list[int] = Field(description="Which texts or labels, from 0")


def told(reading: Reading) -> dict[str, Any]:
    """The fields ``truncated`` and ``notes`` of an answer, each only where there is something to say."""
    said: dict[str, Any] = {}
    if reading.truncated:
        said["truncated"] = [
            {"index": one.index, "tokens": one.tokens, "kept": one.kept}
            | ({} if one.templates is None else {"templates": list(one.templates)})
            for one in reading.truncated
        ]
    if reading.notes:
        said["notes"] = [
            {"code": note.code, "detail": note.detail, "indices": list(note.indices)} for note in reading.notes
        ]
    return said
