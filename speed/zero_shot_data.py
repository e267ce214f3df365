"""Pictures for ``speed.zero_shot``: read as the gateway reads them, run once, features kept in a file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from models.repository.reading import MODEL, read_card
from services.media.image import Picture, read_picture
from services.media.intake import Limits
from services.media.preprocess import Preprocessor
from services.settings import Settings

Array = NDArray[np.float32]

NAMES = {
    "eurosat": {
        "AnnualCrop": "annual crop land",
        "Forest": "forest",
        "HerbaceousVegetation": "herbaceous vegetation",
        "Highway": "highway",
        "Industrial": "industrial buildings",
        "Pasture": "pasture",
        "PermanentCrop": "permanent crop land",
        "Residential": "residential buildings",
        "River": "river",
        "SeaLake": "lake",
    },
    "mnist": {
        "0": "zero",
        "1": "one",
        "2": "two",
        "3": "three",
        "4": "four",
        "5": "five",
        "6": "six",
        "7": "seven",
        "8": "eight",
        "9": "nine",
    },
    "clothing": {"longsleeve": "long-sleeved shirt", "outwear": "outerwear"},
}
"""What folders are called as labels, where their own name is not English."""


@dataclass(frozen=True)
class Pictures:
    """``features (B, F)``, ``logits (B, N)``, ``sides (B,)`` and the place of each one's label in ``labels``."""

    features: Array
    logits: Array
    sides: Array
    truth: NDArray[np.intp]
    labels: tuple[str, ...]

    def only(self, keep: NDArray[np.intp]) -> Pictures:
        return Pictures(self.features[keep], self.logits[keep], self.sides[keep], self.truth[keep], self.labels)


class Reader:
    """Runs pictures through the image model of a version folder; results are kept under ``cache``."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self._card = read_card(folder)
        assert self._card.image is not None and self._card.logits is not None and self._card.embedding is not None
        self._outputs = [self._card.embedding, self._card.logits]
        self._input = self._card.image.input
        self._prepare = Preprocessor(self._card.image)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(folder / MODEL), options, providers=["CPUExecutionProvider"])
        self._cache = cache
        self._limits = Limits.of(Settings())
        cache.mkdir(parents=True, exist_ok=True)

    def folders(self, name: str, root: Path, most: int | None = None, skip: int = 0) -> Pictures:
        """One class a folder; ``most`` files of each after ``skip``."""
        classes = sorted(folder.name for folder in root.iterdir() if folder.is_dir())
        own = [sorted(path for path in (root / c).iterdir() if path.is_file())[skip:][:most] for c in classes]
        truth = [index for index, files in enumerate(own) for _ in files]
        names = NAMES.get(name, {})
        labels = tuple(names.get(c, c.replace("_", " ").replace("-", " ").lower()) for c in classes)
        return self.files(f"{name}-{skip}-{most}", [path for files in own for path in files], truth, labels)

    def files(self, name: str, paths: Sequence[Path], truth: Sequence[int], labels: tuple[str, ...]) -> Pictures:
        kept = self._cache / f"{name}.npz"
        if kept.is_file():
            data = np.load(kept)
            features, logits, sides = data["features"], data["logits"], data["sides"]
        else:
            features, logits, sides = self.run([read_picture(path.read_bytes(), self._limits) for path in paths])
            np.savez(kept, features=features, logits=logits, sides=sides)
        return Pictures(features, logits, sides, np.array(truth, np.intp), labels)

    def run(self, pictures: Sequence[Picture]) -> tuple[Array, Array, Array]:
        """Features, logits and shorter sides."""
        parts = []
        for begin in range(0, len(pictures), 8):
            batch = self._prepare.batch(pictures[begin : begin + 8])
            parts.append(self._session.run(self._outputs, {self._input: batch}))
        features, logits = (np.concatenate(column) for column in zip(*parts, strict=True))
        return features, logits, np.array([min(p.width, p.height) for p in pictures], np.float32)

    def shift(self, paths: Sequence[Path], sides: Sequence[int]) -> Array:
        """``(K, F)``: mean change of features from photos of the last of ``sides`` pixels to smaller ones."""
        total: Array | None = None
        for path in paths:
            picture = read_picture(path.read_bytes(), self._limits)
            features, _, _ = self.run([_shrunk(picture, side) for side in sides])
            change = features - features[-1]
            total = change if total is None else total + change
        assert total is not None
        return np.asarray(total / len(paths), np.float32)


def _shrunk(picture: Picture, side: int) -> Picture:
    """The central square at ``side`` pixels, written as a PNG and read again."""
    edge = min(picture.width, picture.height)
    left, top = (picture.width - edge) // 2, (picture.height - edge) // 2
    small = picture.image.crop((left, top, left + edge, top + edge)).resize((side, side), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    small.save(file, "PNG")
    return read_picture(file.getvalue(), Limits.of(Settings()))
