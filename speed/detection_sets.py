"""COCO sets in folders (``annotations_<split>.json`` and ``<split>/``) as packages, for measures of detectors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services.datasets.package import Checked, Package, write
from services.datasets.samples import Box, Sample, Split

SPLITS: tuple[Split, ...] = ("train", "val", "test")


def package(folder: Path, into: Path) -> Package:
    """Every split that ``folder`` has, as one open package; ``into`` is where its file is written."""
    documents = {split: document(folder, split) for split in SPLITS}
    names = [category["name"] for category in next(d for d in documents.values() if d)["categories"]]
    file = into / f"{folder.name}.zip"
    samples = [one for split, found in documents.items() if found for one in _samples(folder, split, found)]
    write(file, folder.name, "detection", names, "coco", samples)
    return Package(file)


def document(folder: Path, split: str) -> dict[str, Any]:
    """The annotations of a split; empty where there are none."""
    for name in (f"annotations_{split}.json", f"instances_{split}.json"):
        if (folder / name).is_file():
            found: dict[str, Any] = json.loads((folder / name).read_text("utf-8"))
            return found
    return {}


def pictures_of(folder: Path) -> dict[str, Path]:
    """Pictures below ``folder`` by their file names."""
    return {path.name: path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")}


def _samples(folder: Path, split: Split, found: dict[str, Any]) -> Iterator[Checked]:
    files = pictures_of(folder / split)
    place = {category["id"]: number for number, category in enumerate(found["categories"])}
    boxes: dict[int, list[Box]] = {}
    for note in found["annotations"]:
        left, top, width, height = note["bbox"]
        box = Box(place[note["category_id"]], (left, top, left + width, top + height), bool(note.get("iscrowd")))
        boxes.setdefault(note["image_id"], []).append(box)
    for image in found["images"]:
        own = tuple(boxes.get(image["id"], ()))
        file = files[Path(image["file_name"]).name]
        labels = tuple(sorted({box.label for box in own}))
        yield Checked(Sample(file.name, split, labels, own), file, image["width"], image["height"])
