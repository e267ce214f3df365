"""An imported data set as UniCL's training data: pictures with captions, labels, or both (arXiv 2204.03610, 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from models.unicl.data import Augment, Key, label_text
from models.unicl.data import Sample as Drawn
from models.unicl.loss import CAPTION
from services.datasets.package import Package, Stored
from services.media.image import read_picture
from services.media.intake import Limits

KEPT_BYTES = 512 << 20
"""Of pictures that are kept in memory, decoded and scaled down; those beyond are decoded at every visit."""


class Pairs:
    """See :class:`models.unicl.data.TrainingData`. What is drawn depends on seed, step and picture alone.

    A picture with several texts shows one of them at each visit; a caption is a label of its own, the texts of a class
    are made of its name and a template. Pictures are scaled down to ``shorter`` pixels once, kept in memory or not.
    """

    def __init__(
        self,
        package: Package,
        samples: Sequence[Stored],
        augment: Augment,
        templates: Sequence[str],
        seed: int,
        shorter: int,
        limits: Limits,
    ) -> None:
        self._package = package
        self._samples = samples
        self._captions = [captions_of(stored) for stored in samples]
        self._augment = augment
        self._templates = tuple(templates)
        self._seed = seed
        self._shorter = shorter
        self._limits = limits
        self._kept: dict[int, Image.Image] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, key: Key) -> Drawn:
        step, number = key
        captions, labels = self._captions[number], self._samples[number].sample.labels
        generator = np.random.default_rng([self._seed, step, number])
        choice = int(generator.integers(len(captions) + len(labels)))
        if choice < len(captions):
            text, label = captions[choice], CAPTION
        else:
            label = labels[choice - len(captions)] + 1  # 0 is a caption
            template = self._templates[generator.integers(len(self._templates))]
            text = label_text(self._package.classes[label - 1], template)
        return Drawn(self._augment(self._picture(number), generator), text, label)

    def _picture(self, number: int) -> Image.Image:
        kept = self._kept.get(number)
        if kept is not None:
            return kept
        image = read_picture(self._package.read(self._samples[number]), self._limits).image
        scale = self._shorter / min(image.size)
        if scale < 1:
            size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
            image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
        if self._bytes < KEPT_BYTES:
            self._kept[number] = image
            self._bytes += 3 * image.width * image.height
        return image


def captions_of(stored: Stored) -> tuple[str, ...]:
    """Its captions that say something."""
    return tuple(caption for caption in stored.sample.captions if caption.strip())


def with_texts(samples: Sequence[Stored]) -> list[Stored]:
    """Those that have a label or a caption."""
    return [stored for stored in samples if stored.sample.labels or captions_of(stored)]
