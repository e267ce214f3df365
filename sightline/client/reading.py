"""What an answer says of texts and labels that the model did not read whole."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.client.resource import Json


@dataclass(frozen=True, slots=True)
class Truncated:
    """Text or label ``index`` has ``tokens``, of which ``kept`` were read; a label was cut in ``templates``."""

    index: int
    tokens: int
    kept: int
    templates: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Note:
    """``detail`` is for people, ``code`` is stable; ``indices`` are the texts or labels that it is about."""

    code: str
    detail: str
    indices: tuple[int, ...]


def truncated_of(body: Json) -> tuple[Truncated, ...]:
    """The texts that were cut for an answer; none where it was made by a platform that does not say."""
    return tuple(
        Truncated(one["index"], one["tokens"], one["kept"], tuple(one.get("templates", ())))
        for one in body.get("truncated") or ()
    )


def notes_of(body: Json) -> tuple[Note, ...]:
    """What else an answer says of texts and labels."""
    return tuple(Note(one["code"], one["detail"], tuple(one["indices"])) for one in body.get("notes") or ())
