"""The labels of a request: sent as text, named as a set, or the model's own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path

from models.catalog.card import Card
from models.catalog.labels import LabelError, label_set, label_sets, read_labels
from services.errors import Kind, Problem
from services.runtime.problems import model_file_unreadable


def named_set(name: str) -> tuple[str, ...]:
    """The labels of a named set. Raises ``label-set-unknown``."""
    try:
        return _named(name)
    except LabelError as error:
        raise Problem(
            Kind.INVALID,
            "label-set-unknown",
            "Label set is unknown",
            f"There is no label set {name[:80]!r}.",
            pointer="/label_set",
            remedy=f"Use one of {', '.join(label_sets())}, or send the labels themselves.",
        ) from error


@cache
def _named(name: str) -> tuple[str, ...]:
    return label_set(name)


def own_labels(card: Card, folder: Path) -> tuple[str, ...]:
    """The label set of a closed-set model: a file of its version folder, or a named set of the catalog.

    Raises ``model-file-unreadable``.
    """
    assert card.label_set is not None
    if card.label_set.endswith(".txt"):
        try:
            return _of_file(folder / card.label_set, card.files.get(card.label_set, ""))
        except LabelError as error:
            raise model_file_unreadable(card.name, card.label_set, _reason(error)) from error
    return named_set(card.label_set)


def _reason(error: LabelError) -> str | None:
    """Without the path: where the server keeps its files is nobody's business."""
    return error.__cause__.strerror if isinstance(error.__cause__, OSError) else None


@lru_cache(maxsize=64)
def _of_file(path: Path, sha256: str) -> tuple[str, ...]:
    """Kept by content hash: a version folder that is replaced is read again."""
    return read_labels(path)


def check_labels(labels: Sequence[str], limit: int, longest: int) -> tuple[str, ...]:
    """Labels as sent, with white space around them removed. Raises ``labels-*`` and ``label-*`` with a pointer."""
    if not labels:
        raise _refusal("labels-empty", "There are no labels", "The list of labels is empty.", "/labels")
    if len(labels) > limit:
        detail = f"{len(labels):,} labels were sent; at most {limit:,} are accepted."
        raise _refusal("labels-too-many", "There are too many labels", detail, "/labels")

    seen: dict[str, int] = {}
    for index, label in enumerate(labels):
        name = label.strip()
        where = f"/labels/{index}"
        if not name:
            raise _refusal("label-empty", "A label is empty", f"Label {index} has no characters.", where)
        if len(name) > longest:
            detail = f"Label {index} has {len(name):,} characters; at most {longest:,} are accepted."
            raise _refusal("label-too-long", "A label is too long", detail, where)
        if "\0" in name:
            raise _refusal("label-invalid", "A label holds a null character", f"Label {index}: {name!r}.", where)
        if not name.isascii() and not _is_unicode(name):
            detail = f"Label {index} holds half of a surrogate pair: {name[:80]!a}."
            raise _refusal("label-invalid", "A label is no Unicode text", detail, where)
        if name in seen:
            detail = f"{name!r} is label {seen[name]} and label {index}; an answer could not say which is meant."
            raise _refusal("label-duplicate", "A label is sent twice", detail, where)
        seen[name] = index

    return tuple(seen)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def positions(labels: Sequence[str], own: tuple[str, ...], model: str) -> list[int]:
    """Where ``labels`` stand in a closed set. Raises ``label-not-in-set`` for one that the model does not know."""
    places = {label: index for index, label in enumerate(own)}
    for index, label in enumerate(labels):
        if label not in places:
            raise Problem(
                Kind.INVALID,
                "label-not-in-set",
                "The model does not know the label",
                f"{model!r} has a fixed set of {len(own):,} labels; {label[:80]!r} is not among them.",
                pointer=f"/labels/{index}",
                remedy="Leave labels out to rank all of the model's own, or use an open-vocabulary model.",
            )
    return [places[label] for label in labels]


def _refusal(code: str, title: str, detail: str, pointer: str) -> Problem:
    return Problem(Kind.INVALID, code, title, detail, pointer=pointer, remedy="Correct the list of labels.")
