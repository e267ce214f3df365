"""The layouts that an uploaded data set may have; the first whose marks are found reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from services.datasets.formats import coco, folders, iris, table
from services.datasets.samples import Parsed
from services.errors import Kind, Problem


class _Reader(Protocol):
    def matches(self, names: list[str]) -> bool: ...

    def read(self, root: Path, names: list[str]) -> Parsed: ...


READERS: tuple[_Reader, ...] = (iris, coco, table, folders)
"""From the most specific marks to the least: a folder of images is what remains."""


def read(root: Path, names: list[str]) -> Parsed:
    """Read the unpacked files ``names`` below ``root``. Raises :class:`Problem` ``dataset-layout-unknown``."""
    names = sorted(names)
    for reader in READERS:
        if reader.matches(names):
            return reader.read(root, names)
    raise Problem(
        Kind.INVALID,
        "dataset-layout-unknown",
        "No known data set layout was found",
        f"None of the {len(names)} files make a class folder, COCO, CSV, JSONL or ELEVATER list layout.",
        remedy="Put images into one folder a class (optionally below train/, val/, test/), or add a COCO "
        "annotations json, a labels.csv with columns image,label, or an ELEVATER index list with labels.txt.",
    )
