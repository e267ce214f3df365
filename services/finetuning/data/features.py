"""Features of a data set's images by a frozen encoder, computed once and kept on disk by content."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from models.catalog.card import Card
from services.datasets.package import Package, Stored
from services.errors import Kind, Problem
from services.media.image import read_picture
from services.media.intake import Limits
from services.media.preprocess import Preprocessor
from services.runtime.protocol import ModelHandle

Array = NDArray[np.float32]


class FeatureExtractor:
    """Runs ``model`` over images; ``cache`` holds ``<hash>.safetensors`` of what was run before."""

    def __init__(self, model: ModelHandle, cache: Path, limits: Limits) -> None:
        card = model.card
        if card.square is None or card.embedding is None:
            raise Problem(
                Kind.INVALID,
                "model-embeds-no-image",
                "The model is no image encoder",
                f"Model {card.name!r} takes no square image or puts out no features.",
                pointer="/parameters/model",
                remedy="Choose a model whose card names an image preprocessing to a square and an embedding.",
            )

        self.card: Card = card
        self._image, self._output = card.square, card.embedding
        self._model = model
        self._cache = cache
        self._limits = limits

    async def extract(
        self, package: Package, package_sha256: str, samples: Sequence[Stored], progress: Callable[[int, int], None]
    ) -> Array:
        """``(N, D) float32`` of ``samples``, in order. ``progress`` may raise to stop; what was done is then redone."""
        path = self._cache / f"{self._key(package_sha256, samples)}.safetensors"
        kept = _load(path, len(samples))
        if kept is not None:
            return kept

        preprocessor = Preprocessor(self._image)
        batch = self.card.batching.max_batch_size
        rows: list[Array] = []
        for start in range(0, len(samples), batch):
            progress(start, len(samples))
            part = samples[start : start + batch]
            pixels = await asyncio.to_thread(self._pixels, package, part, preprocessor)
            answer = await self._model.infer({self._image.input: pixels}, [self._output])
            rows.append(np.array(answer.outputs[self._output], np.float32))

        progress(len(samples), len(samples))
        features = np.concatenate(rows)
        self._cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{uuid4().hex}.part")  # another job may be computing the same
        save_file({"features": features}, partial)
        partial.replace(path)
        return features

    def _pixels(self, package: Package, part: Sequence[Stored], preprocessor: Preprocessor) -> Array:
        return preprocessor.batch([read_picture(package.read(stored), self._limits) for stored in part])

    def _key(self, package_sha256: str, samples: Sequence[Stored]) -> str:
        digest = hashlib.sha256(
            f"{package_sha256} {sorted(self.card.files.items())} {self.card.image} {self._output}".encode()
        )
        for stored in samples:
            digest.update(stored.image.encode())
        return digest.hexdigest()[:32]


def _load(path: Path, rows: int) -> Array | None:
    """Features that were kept; a file that is torn or of another length counts as none."""
    try:
        features = load_file(path)["features"]
    except (OSError, SafetensorError, KeyError):
        return None
    return features if len(features) == rows else None
