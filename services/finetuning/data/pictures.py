"""A split's pictures as the encoder wants them, on disk as bytes: one picture is read when its batch comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.catalog.geometry import ImagePreprocess
from services.media.image import read_picture
from services.media.intake import Limits
from services.media.preprocess import Preprocessor

CHUNK = 64


class Pictures:
    """``(N, 3, S, S)``, read-only, indexed by a tensor of positions: ``float32``, normalised, on ``device``.

    Resized and cropped once, kept as ``uint8`` (a quarter of the floats, and exactly what they were made of) in a
    memory map, so that a set may be larger than memory.
    """

    def __init__(
        self,
        pixels: Sequence[NDArray[np.uint8]],
        spec: ImagePreprocess,
        places: NDArray[np.int64] | None = None,
        device: torch.device | None = None,
    ) -> None:
        """``pixels``: one or more arrays ``(n, 3, S, S)``; ``places`` ``(N, 2)``: array and row of each picture."""
        self._pixels = tuple(pixels)
        self.spec = spec
        self.device = device or torch.device("cpu")
        if places is None:
            rows = [(part, row) for part, array in enumerate(self._pixels) for row in range(len(array))]
            places = np.array(rows, np.int64).reshape(-1, 2)

        self._places = places

    @classmethod
    def collect(
        cls,
        images: Iterable[bytes],
        spec: ImagePreprocess,
        path: Path,
        limits: Limits,
        progress: Callable[[int], None] = lambda done: None,
    ) -> Pictures:
        """Decode and crop ``images`` into ``path``. ``progress`` gets the number done and may raise to stop."""
        preprocessor = Preprocessor(spec)
        done = 0
        with path.open("wb") as out:
            for image in images:
                out.write(_bytes(preprocessor.batch([read_picture(image, limits)]), spec).tobytes())
                done += 1
                if done % CHUNK == 0:
                    progress(done)

        progress(done)
        shape = (done, 3, spec.size, spec.size)
        if not done:
            return cls([np.empty(shape, np.uint8)], spec)

        return cls([np.memmap(path, np.uint8, "r", shape=shape)], spec)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Tensor) -> Tensor:
        places = self._places[index.cpu().numpy()]
        picked = np.stack([self._pixels[part][row] for part, row in places])
        pixels = torch.from_numpy(picked).to(self.device).float() / 255
        mean, std = (
            torch.tensor(values, device=self.device)[:, None, None] for values in (self.spec.mean, self.spec.std)
        )
        return (pixels - mean) / std

    def rows(self, positions: Sequence[int]) -> Pictures:
        """Some of the pictures, in that order, without copying any."""
        return Pictures(self._pixels, self.spec, self._places[list(positions)], self.device)

    def joined(self, other: Pictures) -> Pictures:
        """These and then the others'."""
        moved = other._places + np.array([len(self._pixels), 0])
        places = np.concatenate([self._places, moved])
        return Pictures((*self._pixels, *other._pixels), self.spec, places, self.device)

    def to(self, device: torch.device) -> Pictures:
        """The same pictures, whose batches come on another device."""
        return Pictures(self._pixels, self.spec, self._places, device)


def _bytes(pixels: NDArray[np.float32], spec: ImagePreprocess) -> NDArray[np.uint8]:
    """Return what the preprocessor normalised: whole numbers again, since it works on 8-bit pictures."""
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (spec.mean, spec.std))
    whole: NDArray[np.uint8] = np.rint((pixels * std + mean) * 255).clip(0, 255).astype(np.uint8)
    return whole
