"""What a data set is once it has been read: classes, samples, and the flaws that were found on the way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Task = Literal["classification", "multilabel", "detection", "captions"]
Split = Literal["train", "val", "test"]

SPLITS: dict[str, Split] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip
"""Folder and file stems that name a split."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})


@dataclass(frozen=True, slots=True)
class Box:
    """An object: class index and ``xyxy`` in pixels of the stored image."""

    label: int
    xyxy: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Sample:
    """One image: its path in the archive, class indices, boxes and captions."""

    path: str
    split: Split
    labels: tuple[int, ...] = ()
    boxes: tuple[Box, ...] = ()
    captions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something wrong in one file, and where: the line of a list, or none for a whole file."""

    file: str
    line: int | None
    message: str


class Flaws:
    """The first flaws in full, and how many there are in all: a hostile list has millions."""

    KEPT = 1000
    LONGEST = 500

    def __init__(self) -> None:
        self.first: list[Flaw] = []
        self.count = 0

    def append(self, flaw: Flaw) -> None:
        self.count += 1
        if len(self.first) < self.KEPT:
            message = flaw.message if len(flaw.message) <= self.LONGEST else flaw.message[: self.LONGEST] + "..."
            self.first.append(Flaw(flaw.file, flaw.line, message))

    def __len__(self) -> int:
        return self.count


@dataclass(slots=True)
class Parsed:
    """The outcome of reading one format. Samples that a flaw touches are left out, the rest stand."""

    format: str
    task: Task
    classes: list[str]
    samples: list[Sample] = field(default_factory=list)
    flaws: Flaws = field(default_factory=Flaws)


def readable_classes(names: Iterable[str]) -> list[str]:
    """Names as one line each, none empty and none twice, in the same order: ``crane``, ``crane (2)``, ``class 7``."""
    found: list[str] = []
    seen: set[str] = set()
    for index, name in enumerate(names):
        plain = " ".join("".join(c if c.isprintable() else " " for c in name).split())[:200] or f"class {index}"
        unique, copy = plain, 1
        while unique in seen:
            copy += 1
            unique = f"{plain} ({copy})"
        seen.add(unique)
        found.append(unique)
    return found


class Classes:
    """Class names to indices in order of first sight, or within a fixed list."""

    def __init__(self, names: Iterable[str] = (), *, fixed: bool = False) -> None:
        self.names = list(names)
        self._index = {name: position for position, name in enumerate(self.names)}
        self._fixed = fixed

    def index(self, name: str) -> int | None:
        """The index of ``name``; ``None`` when the list is fixed and does not hold it."""
        found = self._index.get(name)
        if found is None and not self._fixed:
            found = self._index[name] = len(self.names)
            self.names.append(name)
        return found
