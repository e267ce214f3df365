"""``python -m tests.support.real_sets FOLDER...``: real data sets, packed in every layout they allow and read back.

A folder is a set with ``annotations_<split>.json`` (COCO) and ``<split>/image``, or with ``[<split>/]class/image``.
Prints a row of a table for each; exit code 1 where anything that is read differs from what was written.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from services.datasets.archive import ArchiveLimits
from services.datasets.importing import import_archive
from services.datasets.package import Package
from services.errors import Problem
from services.media.intake import Limits
from tests.support.dataset_layouts import CLASSIFIED, DETECTED, Entries, Truth, Writer

IMAGES = Limits(max_bytes=32 << 20, max_pixels=50_000_000, max_aspect=100, max_frames=10)
SUFFIXES = (".jpg", ".jpeg", ".png")
CLOSE = 0.05
"""Pixels by which a side may differ: YOLO files are written with six digits."""

Placed = tuple[str, tuple[float, ...]]


def read_real(folder: Path, most: int = 0) -> Truth:
    """The set in ``folder`` by its own files, without the platform's readers; ``most`` images of each split."""
    notes = sorted(folder.glob("annotations_*.json"))
    truth = Truth()
    if notes:
        for note in notes:
            _read_coco(note, folder / note.stem.removeprefix("annotations_"), truth, most)
        return truth

    splits = [name for name in ("train", "val", "test") if (folder / name).is_dir()]
    for split in splits or ["train"]:
        root = folder / split if splits else folder
        by_class = defaultdict(list)
        for image in sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES):
            by_class["_".join(image.relative_to(root).parts[:-1])].append(image)
        each = max(1, most // len(by_class)) if most else None
        for label, images in by_class.items():
            for image in images[:each]:
                _add(truth, image, split, (label,), ())
    return truth


def _read_coco(note: Path, images: Path, truth: Truth, most: int) -> None:
    document = json.loads(note.read_text())
    names = {one["id"]: one["name"] for one in document["categories"]}
    boxes: dict[int, list[Placed]] = defaultdict(list)
    sizes = {one["id"]: (one["width"], one["height"]) for one in document["images"]}
    for one in document["annotations"]:
        x, y, w, h = one["bbox"]
        width, height = sizes[one["image_id"]]
        box = (max(0.0, x), max(0.0, y), min(float(width), x + w), min(float(height), y + h))
        if not one.get("iscrowd") and box[2] > box[0] and box[3] > box[1]:
            boxes[one["image_id"]].append((names[one["category_id"]], tuple(map(float, box))))

    shown = [one for one in document["images"] if boxes[one["id"]]]
    for one in shown[: most or None]:
        own = boxes[one["id"]]
        labels = tuple(sorted({label for label, _ in own}))
        _add(truth, images / one["file_name"], images.name, labels, tuple(sorted(own)))


def _add(truth: Truth, image: Path, split: str, labels: tuple[str, ...], boxes: tuple[Placed, ...]) -> None:
    name = image.name if image.name not in truth.rows else f"{len(truth.rows)}-{image.name}"
    truth.rows[name] = (split, labels, boxes)
    truth.images[name] = image.read_bytes()


def difference(truth: Truth, entries: Entries, layout: str) -> str:
    """What differs between ``truth`` and what is read of ``entries``; nothing where they are equal."""
    with tempfile.TemporaryDirectory() as folder:
        upload, into = Path(folder) / "upload.zip", Path(folder) / "package.zip"
        with zipfile.ZipFile(upload, "w") as bundle:
            for name, data in entries.items():
                bundle.writestr(name, data)
        try:
            imported = import_archive(upload, "set", into, IMAGES, ArchiveLimits())
        except Problem as problem:
            return f"refused: {problem.detail}"
        if imported.format != layout:
            return f"read as {imported.format}"
        with Package(into) as package:
            return _compare(truth, package)


def _compare(truth: Truth, package: Package) -> str:
    found = {}
    for stored in package.samples:
        sample = stored.sample
        name = Path(sample.path).name
        boxes = [(package.classes[box.label], box.xyxy) for box in sample.boxes]
        found[name] = (sample.split, tuple(sorted(package.classes[label] for label in sample.labels)))
        if package.read(stored) != truth.images[name]:
            return f"{name}: other bytes"
        if not _same(boxes, truth.rows[name][2]):
            return f"{name}: {boxes}, not {truth.rows[name][2]}"
    expected = {name: (split, labels) for name, (split, labels, _) in truth.rows.items()}
    wrong = [name for name in expected if found.get(name) != expected[name]]
    return "" if not wrong and len(found) == len(expected) else f"{len(wrong)} images differ, as {wrong[:1]}"


def _same(found: Sequence[Placed], expected: Sequence[Placed]) -> bool:
    left = list(found)
    for label, box in expected:
        same = [one for one in left if one[0] == label and _near(one[1], box)]
        if not same:
            return False
        left.remove(same[0])
    return not left


def _near(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(abs(a - b) < CLOSE for a, b in zip(one, other, strict=True))


def variants(truth: Truth) -> list[tuple[str, Writer, str]]:
    """The layouts that can say what the set says."""
    return DETECTED if any(boxes for _, _, boxes in truth.rows.values()) else CLASSIFIED


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--most", type=int, default=0, help="images of each split; all when absent")
    options = parser.parse_args(arguments)
    print("| set | images | boxes | classes | forms | equal |\n|---|---|---|---|---|---|")
    wrong = 0
    for folder in options.folders:
        truth = read_real(folder, options.most)
        forms = variants(truth)
        said = {f"{layout} {one}": difference(truth, write(truth, one), layout) for layout, write, one in forms}
        equal = sum(not text for text in said.values())
        boxes = sum(len(own) for _, _, own in truth.rows.values())
        sizes = f"{len(truth.rows):,} | {boxes:,} | {len(truth.names()):,}"
        print(f"| {folder.name} | {sizes} | {len(forms)} | {equal} |", flush=True)
        for form, text in said.items():
            if text:
                wrong += 1
                print(f"{folder.name}, {form}: {text[:300]}", file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
