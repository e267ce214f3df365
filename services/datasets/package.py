"""A data set at rest: one zip with a manifest and the images as they were uploaded, read entry by entry.

``manifest.json`` holds name, task, classes and format; ``samples.jsonl`` one sample a line; ``images/<number>.<ext>``
the bytes. The zip is stored, not deflated: images do not shrink, and any of them can be read without the others.
"""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import cast

from services.datasets.samples import Box, Sample, Split, Task

EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Stored:
    """A sample of a package, and where its image lies in it."""

    sample: Sample
    image: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Checked:
    """A sample whose image was decoded once: its file, size and extension."""

    sample: Sample
    file: Path
    width: int
    height: int


def write(path: Path, name: str, task: Task, classes: list[str], layout: str, samples: Iterable[Checked]) -> None:
    """Write a package; equal input gives equal bytes, so that the same upload is stored once.

    An image that several samples name lies in it once.
    """
    lines: list[str] = []
    stored: dict[Path, str] = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as bundle:
        for number, checked in enumerate(samples):
            image = stored.get(checked.file)
            if image is None:
                image = stored[checked.file] = f"images/{number:08d}{checked.file.suffix.lower()}"
                bundle.writestr(zipfile.ZipInfo(image, EPOCH), checked.file.read_bytes())
            lines.append(_line(checked, image))
        manifest = {"name": name, "task": task, "format": layout, "classes": classes, "samples": len(lines)}
        bundle.writestr(zipfile.ZipInfo("samples.jsonl", EPOCH), "\n".join(lines))
        bundle.writestr(zipfile.ZipInfo("manifest.json", EPOCH), json.dumps(manifest))


def _line(checked: Checked, image: str) -> str:
    sample = checked.sample
    return json.dumps(
        {
            "image": image,
            "path": sample.path,
            "split": sample.split,
            "size": [checked.width, checked.height],
            "labels": sample.labels,
            "boxes": [[box.label, *box.xyxy, *([1] if box.ignore else [])] for box in sample.boxes],
            "captions": sample.captions,
        },
        separators=(",", ":"),
    )


class Package:
    """An open package. Not for use by several threads at once: each opens its own."""

    def __init__(self, path: Path) -> None:
        self._bundle = zipfile.ZipFile(path)
        manifest = json.loads(self._bundle.read("manifest.json"))
        self.name: str = manifest["name"]
        self.task: Task = manifest["task"]
        self.classes: list[str] = manifest["classes"]
        self.samples = list(self._read_samples())

    def __enter__(self) -> Package:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._bundle.close()

    def read(self, stored: Stored) -> bytes:
        """The image's bytes as they were uploaded."""
        return self._bundle.read(stored.image)

    def split(self, name: Split) -> list[Stored]:
        return [stored for stored in self.samples if stored.sample.split == name]

    def _read_samples(self) -> Iterator[Stored]:
        for line in self._bundle.read("samples.jsonl").splitlines():
            row = json.loads(line)
            boxes = tuple(
                Box(int(label), (x0, y0, x1, y1), bool(ignore)) for label, x0, y0, x1, y1, *ignore in row["boxes"]
            )
            sample = Sample(row["path"], cast(Split, row["split"]), tuple(row["labels"]), boxes, tuple(row["captions"]))
            yield Stored(sample, row["image"], *row["size"])


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is: images a split, and labelled images (or boxes) a class."""

    splits: dict[str, int]
    classes: dict[str, int]


def count(samples: Iterable[Sample], classes: list[str]) -> Counts:
    splits: Counter[str] = Counter()
    labels: Counter[int] = Counter()
    for sample in samples:
        splits[sample.split] += 1
        labels.update([box.label for box in sample.boxes if not box.ignore] if sample.boxes else sample.labels)
    return Counts(dict(splits), {name: labels[index] for index, name in enumerate(classes)})
