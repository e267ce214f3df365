"""What a data set is once it has been read: classes, samples, and the flaws that were found on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

from services.errors import Kind, Problem

Task = Literal["classification", "multilabel", "detection", "captions"]
Split = Literal["train", "val", "test"]

SPLITS: dict[str, Split] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip
"""Folder and file stems that name a split."""

MAX_ANNOTATIONS = 2_000_000
"""Of one set: they are held as objects until the package is written, some 300 bytes each."""


@dataclass(frozen=True, slots=True)
class Box:
    """An object: class index and ``xyxy`` in pixels of the image as it is displayed.

    ``ignore`` marks a crowd (COCO ``iscrowd``) or a difficult object (VOC): neither trained on nor counted as missed.
    """

    label: int
    xyxy: tuple[float, float, float, float]
    ignore: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One image: its path in the archive, class indices, boxes and captions.

    ``frame`` is the width and height that the annotation names, in whose pixels ``boxes`` are; ``None`` where it names
    none. ``relative`` says that boxes are shares of the image's sides, from 0 to 1. ``annotations`` is how many of the
    upload's annotations it is made of; 0 stands for one a box, label or caption.
    """

    path: str
    split: Split
    labels: tuple[int, ...] = ()
    boxes: tuple[Box, ...] = ()
    captions: tuple[str, ...] = ()
    frame: tuple[float, float] | None = field(default=None, compare=False)
    relative: bool = field(default=False, compare=False)
    annotations: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something wrong in one file, and where: the line of a list, or none for a whole file.

    ``annotation`` says that one annotation was left out and not the file; ``reason`` is what flaws are grouped by.
    """

    file: str
    line: int | None
    message: str
    annotation: bool = field(default=False, compare=False)
    reason: str = field(default="", compare=False)


@dataclass(slots=True)
class Group:
    """Flaws of one reason: how many, and the first three."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        self.count += 1
        if len(self.examples) < 3:
            self.examples.append(example)


class Flaws:
    """The first flaws in full, and how many there are in all: a hostile list has millions."""

    KEPT = 1000
    LONGEST = 500
    REASONS = 50

    def __init__(self) -> None:
        self.first: list[Flaw] = []
        self.count = 0
        self.annotations: dict[str, Group] = {}
        """Annotations that were left out, by reason."""
        self.files: dict[str, str] = {}
        """Why a file was left out; what is said of lines of a file that was read is not here."""

    def append(self, flaw: Flaw) -> None:
        self.count += 1
        message = flaw.message if len(flaw.message) <= self.LONGEST else flaw.message[: self.LONGEST] + "..."
        kept = Flaw(flaw.file, flaw.line, message, flaw.annotation, flaw.reason)
        if len(self.first) < self.KEPT:
            self.first.append(kept)

        if flaw.annotation:
            reason = flaw.reason or message
            if reason not in self.annotations and len(self.annotations) >= self.REASONS:
                reason = "other reasons"
            place = f"{flaw.file}:{flaw.line}" if flaw.line else flaw.file
            self.annotations.setdefault(reason, Group()).add(f"{place}: {message}")
        elif flaw.line is None:
            self.files.setdefault(flaw.file, flaw.reason or message)

    def __len__(self) -> int:
        return self.count


@dataclass(slots=True)
class Parsed:
    """The outcome of reading one layout. Samples that a flaw touches are left out, the rest stand.

    ``label_files`` were read as annotations. ``annotations`` counts what they hold: labels, boxes, captions, lines.
    ``class_seen`` counts them by class index and ``split_seen`` by split, lost ones too: what is lost can be told.
    """

    format: str
    task: Task
    classes: list[str]
    samples: list[Sample] = field(default_factory=list)
    flaws: Flaws = field(default_factory=Flaws)
    label_files: list[str] = field(default_factory=list)
    annotations: int = 0
    class_seen: Counter[int] = field(default_factory=Counter)
    split_seen: Counter[str] = field(default_factory=Counter)
    also_lost: list[str] = field(default_factory=list)
    """What else is gone whole, in words: the names of the classes."""

    def count(self) -> None:
        """Count one annotation. Raises :class:`Problem` ``dataset-too-large`` where there are too many to be held."""
        self.annotations += 1
        if self.annotations > MAX_ANNOTATIONS:
            raise Problem(
                Kind.TOO_LARGE,
                "dataset-too-large",
                "The data set has too many annotations",
                f"More than {MAX_ANNOTATIONS:,} labels, boxes, captions or lines are not read at once.",
                remedy="Upload it in parts, each under a name of its own.",
            )

    def lose(self, name: str, line: int | None, message: str, *, reason: str) -> None:
        """Count an annotation of the file ``name`` as lost; ``reason`` names the kind of loss."""
        self.flaws.append(Flaw(name, line, message, annotation=True, reason=reason))

    def see_split(self, split: Split | None) -> None:
        """Note that the upload has something of ``split``, whether or not it can be read."""
        if split is not None:
            self.split_seen[split] += 1


def named_split(path: str) -> Split | None:
    """The split that a file's name or its folders mention, the name first; ``None`` where none does.

    >>> named_split("annotations/instances_val2017.json"), named_split("valid/0.jpg"), named_split("a.json")
    ('val', 'val', None)
    """
    pure = PurePosixPath(path)
    words = pure.stem.lower().replace("-", "_").replace(".", "_").split("_")
    for word in [*words, *(_word(part) for part in reversed(pure.parent.parts))]:
        for stem in (word, word.rstrip("0123456789")):
            if stem in SPLITS:
                return SPLITS[stem]
    return None


def folder_split(path: str) -> Split | None:
    """The split that one of a file's folders is named for, the innermost first.

    >>> folder_split("train/images/0.jpg"), folder_split("test.zip/0.jpg")
    ('train', 'test')
    """
    found = (split_of(part) for part in reversed(PurePosixPath(path).parent.parts))
    return next((split for split in found if split is not None), None)


def split_of(folder: str) -> Split | None:
    """The split that a folder, or a zip that was unpacked into one, is named for."""
    return SPLITS.get(_word(folder))


def _word(folder: str) -> str:
    return folder.lower().removesuffix(".zip")


def task_of(samples: Iterable[Sample], classes: int) -> Task:
    """What samples can teach: boxes make a detection set, no class at all captions, several labels multilabel."""
    captions = several = False
    for sample in samples:
        if sample.boxes:
            return "detection"
        captions = captions or bool(sample.captions)
        several = several or len(sample.labels) != 1

    if captions and not classes:
        return "captions"
    return "multilabel" if several else "classification"


def readable_classes(names: Iterable[str]) -> list[str]:
    """Names as one line each, none empty and none twice, in the same order: ``crane``, ``crane (2)``, ``class 7``."""
    found: list[str] = []
    seen: set[str] = set()
    copies: Counter[str] = Counter()  # where the search for a free number goes on: the same name may come 10,000 times
    for index, name in enumerate(names):
        plain = " ".join("".join(c if c.isprintable() else " " for c in name).split())[:200] or f"class {index}"
        unique = plain
        while unique in seen:
            copies[plain] += 1
            unique = f"{plain} ({copies[plain] + 1})"
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
