"""Named label sets: text files, one label a line, in the order of a classifier's outputs."""

from __future__ import annotations

import re
from pathlib import Path

from models.errors import ModelError
from models.text_files import UnreadableText, decode_text, text_lines

FOLDER = Path(__file__).parent / "label_sets"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class LabelError(ModelError):
    """A label set that is not there or not usable."""


def label_sets() -> tuple[str, ...]:
    """The names of the catalog's label sets."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.txt")))


def label_set(name: str) -> tuple[str, ...]:
    """The labels of a named set; raises :class:`LabelError` for a name that the catalog does not have."""
    path = FOLDER / f"{name}.txt"
    if not NAME.fullmatch(name) or not path.is_file():
        raise LabelError(f"no label set {name!r}", f"there are {', '.join(label_sets())}")
    return read_labels(path)


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels of a file, one a line; empty lines at its end are dropped.

    Raises :class:`LabelError` for a file that is no text, that has an empty line in between, or that names a
    label twice, since then no answer could say which one it means.
    """
    try:
        labels = [line.strip() for line in text_lines(decode_text(path.read_bytes()).rstrip())]
    except OSError as error:
        raise LabelError(f"{path} cannot be read: {error.strerror}", "give a text file, one label a line") from error
    except UnreadableText as error:
        raise LabelError(f"{path} is not UTF-8 text: {error}", "save it as UTF-8") from error

    if not labels:
        raise LabelError(f"{path} has no labels", "write one label a line")

    seen: dict[str, int] = {}
    for number, label in enumerate(labels, 1):
        if not label:
            raise LabelError(f"{path}: line {number} is empty", "every line is the label of one output")
        if label in seen:
            raise LabelError(f"{path}: {label!r} is on line {seen[label]} and on line {number}", "make them distinct")
        seen[label] = number

    return tuple(labels)
