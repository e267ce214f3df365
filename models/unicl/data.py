"""Pictures with texts and labels for training: one space for captions and classes (arXiv 2204.03610, section 3.1).

A data set is a folder with ``pairs.jsonl``, one picture a line: ``{"image": "a.png", "caption": "..."}`` or
``{"image": "b.png", "label": "dog", "names": ["dog", "hound"]}``. A caption is its own text; a label's text is made
anew at every visit from one of its names and one template. Everything random is drawn from the seed, the step and the
picture alone, so that a run which was killed continues exactly as it would have gone on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from models.errors import ModelError
from models.intake.presets import IMAGENET
from models.unicl.loss import CAPTION

PAIRS = "pairs.jsonl"
Key = tuple[int, int]
"""A step of training and the number of a picture: all that a sample depends on."""


class DataError(ModelError):
    """A data set that cannot be trained on: file, line and what is wrong there."""


class Sample(NamedTuple):
    """``pixels (3, S, S) float32``, the text of this visit, and the label, 0 for a caption."""

    pixels: Tensor
    text: str
    label: int


class TrainingData(Protocol):
    """What training asks of data."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Key) -> Sample: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of ``pairs.jsonl``; ``texts`` are the caption alone, or the names of the class."""

    image: Path
    label: int
    texts: tuple[str, ...]


Augment = Callable[[Image.Image, np.random.Generator], Tensor]


class ImageTextLabel(Dataset[Sample]):
    """A folder of pictures with captions and classes."""

    def __init__(self, folder: Path, augment: Augment, templates: Sequence[str] = ("{}",), seed: int = 0) -> None:
        if not templates or any(template.count("{}") != 1 for template in templates):
            raise DataError("every template needs exactly one {}", "Write for example: a photo of a {}.")
        self.entries = read_pairs(folder)
        self.augment = augment
        self.templates = tuple(templates)
        self.seed = seed

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, key: Key) -> Sample:
        step, number = key
        entry = self.entries[number]
        generator = np.random.default_rng([self.seed, step, number])
        text = entry.texts[generator.integers(len(entry.texts))]
        if entry.label != CAPTION:
            template = self.templates[generator.integers(len(self.templates))]
            text = label_text(text, template)
        try:
            with Image.open(entry.image) as image:
                return Sample(self.augment(image.convert("RGB"), generator), text, entry.label)
        except OSError as error:
            raise DataError(f"{entry.image} cannot be read: {error}", "Replace it, or take its line out.") from error


def label_text(name: str, template: str) -> str:
    """A class name in a template, without commas and with blanks for pluses, as the reference's sampler makes it."""
    return template.replace("{}", name.replace(",", "").replace("+", " "))


def read_pairs(folder: Path) -> list[Entry]:
    """Every line of ``pairs.jsonl``; labels get ids from 1 in alphabetical order. Raises :class:`DataError`."""
    try:
        lines = (folder / PAIRS).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{folder} has no readable {PAIRS}", "Write one line of JSON for every picture.") from error
    rows = [_row(folder, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise DataError(f"{folder / PAIRS} names no pictures", "Write one line of JSON for every picture.")
    ids = {label: number for number, label in enumerate(sorted({row[1] for row in rows if row[1]}), start=1)}
    return [Entry(image, ids[label] if label else CAPTION, texts) for image, label, texts in rows]


def _row(folder: Path, number: int, line: str) -> tuple[Path, str, tuple[str, ...]]:
    def wrong(what: str) -> DataError:
        return DataError(f"{folder / PAIRS}, line {number}: {what}", "See docs/models/unicl.md for the format.")

    try:
        row = json.loads(line)
    except ValueError as error:
        raise wrong(f"no JSON ({error})") from error
    if not isinstance(row, dict) or not isinstance(row.get("image"), str):
        raise wrong("an image is missing")
    image = folder / row["image"]
    if not image.resolve().is_relative_to(folder.resolve()):
        raise wrong(f"{row['image']} lies outside of the data set")
    if not image.is_file():
        raise wrong(f"{row['image']} is not there")
    caption, label = row.get("caption"), row.get("label")
    if isinstance(caption, str) and caption.strip() and label is None:
        return image, "", (caption,)
    if isinstance(label, str) and label.strip() and caption is None:
        names = row.get("names", [label])
        if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
            raise wrong("names must be a list of texts that are not empty")
        return image, label, tuple(names)
    raise wrong("either a caption or a label is needed, a text that is not empty")


@dataclass(frozen=True, slots=True)
class CropAndFlip:
    """A random part of the picture at random aspect, perhaps mirrored, scaled to ``size`` and normalised."""

    size: int
    least_area: float = 0.5
    aspect: float = 4 / 3
    flip: float = 0.5

    def __call__(self, image: Image.Image, generator: np.random.Generator) -> Tensor:
        """RGB picture to ``(3, size, size) float32``."""
        width, height = image.size
        area = width * height * generator.uniform(self.least_area, 1.0)
        stretch = np.exp(generator.uniform(-np.log(self.aspect), np.log(self.aspect)))
        crop_width = min(width, (area * stretch) ** 0.5)
        crop_height = min(height, (area / stretch) ** 0.5)
        left = generator.uniform(0, width - crop_width)
        top = generator.uniform(0, height - crop_height)
        box = (left, top, left + crop_width, top + crop_height)
        image = image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box)
        if generator.random() < self.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return normalised(image)


def normalised(image: Image.Image) -> Tensor:
    """RGB picture to ``(3, H, W) float32`` with ImageNet's mean and deviation, as it is served."""
    mean, std = IMAGENET
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    standard = (pixels - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return torch.from_numpy(np.ascontiguousarray(standard.transpose(2, 0, 1)))


class Batches(Sampler[list[Key]]):
    """Endless passes over the data, each in an order of its own, cut into one process's share of every batch.

    ``batch_size`` counts all processes together. Starts at ``first_step``, which needs no state of earlier steps.
    """

    def __init__(
        self, length: int, batch_size: int, seed: int, first_step: int, last_step: int, rank: int = 0, ranks: int = 1
    ) -> None:
        if batch_size % ranks:
            raise ValueError(f"a batch of {batch_size} cannot be shared by {ranks} processes")
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.steps = range(first_step, last_step)
        self.share = batch_size // ranks
        self.rank = rank

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for step in self.steps:
            start = step * self.batch_size + self.rank * self.share
            batch: list[Key] = []
            for place in range(start, start + self.share):
                if place // self.length != epoch:
                    epoch = place // self.length
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
                batch.append((step, int(order[place % self.length])))
            yield batch


def collate(samples: Sequence[Sample]) -> tuple[Tensor, list[str], Tensor]:
    """Pixels ``(B, 3, S, S)``, texts, labels ``(B,) int64``."""
    pixels = torch.stack([sample.pixels for sample in samples])
    return pixels, [sample.text for sample in samples], torch.tensor([sample.label for sample in samples])
