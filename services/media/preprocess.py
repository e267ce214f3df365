"""Pictures to model tensors, as torchvision's evaluation transforms make them, without torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.catalog.card import ImagePreprocess
from services.media.image import Picture

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_LARGEST_RESIZE = 1 << 25
"""Pixels. A long strip scaled up whole could take gigabytes, of which the crop keeps a square."""


class Preprocessor:
    """Resize, crop and normalise by one card's ``image``. Holds no state of a request: threads may share it.

    ``shorter-crop`` is ``Resize(resize)``, ``CenterCrop(size)``; ``squash`` is ``Resize((size, size))``; both are
    followed by ``ToTensor`` and ``Normalize(mean, std)``. Equal to torchvision on PIL images bit for bit.
    """

    def __init__(self, spec: ImagePreprocess) -> None:
        self.spec = spec
        self.size = spec.size
        # size / 0.875 rounded down, in integers; int(256 / 224 * size) is the same number for every size a card allows
        self.shorter = spec.resize if spec.resize is not None else spec.size * 8 // 7
        self._resample = _RESAMPLING[spec.interpolation]
        self._mean = np.asarray(spec.mean, np.float32)
        self._std = np.asarray(spec.std, np.float32)

    def into(self, picture: Picture, out: NDArray[np.float32]) -> None:
        """Write ``picture`` into ``out``, ``(3, size, size) float32`` of any strides; ``ValueError`` if it is not."""
        if out.shape != (3, self.size, self.size) or out.dtype != np.float32:
            raise ValueError(f"out is {out.dtype} {out.shape}, not float32 (3, {self.size}, {self.size})")
        image = picture.image
        if self.spec.mode == "squash":
            self._normalise(self._resize(image, self.size, self.size), 0, 0, out)
            return
        width, height = _resized(image.width, image.height, self.shorter)
        left, top = _centre(width, self.size), _centre(height, self.size)
        if width * height > _LARGEST_RESIZE:
            image = self._resize_part(image, width, height, left, top)
            left, top = min(left, 0), min(top, 0)
        else:
            image = self._resize(image, width, height)
        self._normalise(image, left, top, out)

    def batch(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """A new ``(B, 3, size, size) float32`` array."""
        out = np.empty((len(pictures), 3, self.size, self.size), np.float32)
        for picture, view in zip(pictures, out, strict=True):
            self.into(picture, view)
        return out

    def window(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Which part of a picture of this size the tensor shows: left, top, right, bottom in the picture's pixels.

        It reaches beyond the picture where that was padded.
        """
        if self.spec.mode == "squash":
            return 0.0, 0.0, float(width), float(height)
        wide, high = _resized(width, height, self.shorter)
        left, top = _centre(wide, self.size), _centre(high, self.size)
        x, y = width / wide, height / high
        return left * x, top * y, (left + self.size) * x, (top + self.size) * y

    def _resize(self, image: Image.Image, width: int, height: int) -> Image.Image:
        return image if image.size == (width, height) else image.resize((width, height), self._resample)

    def _resize_part(self, image: Image.Image, width: int, height: int, left: int, top: int) -> Image.Image:
        """The crop window of the resized image alone; equal to within one level of 255."""
        scale_x, scale_y = image.width / width, image.height / height
        left, top = max(left, 0), max(top, 0)
        wide, high = min(self.size, width), min(self.size, height)
        box = (left * scale_x, top * scale_y, (left + wide) * scale_x, (top + high) * scale_y)
        return image.resize((wide, high), self._resample, box)

    def _normalise(self, image: Image.Image, left: int, top: int, out: NDArray[np.float32]) -> None:
        """``((pixel / 255) - mean) / std`` of the window at ``left, top``; outside the image pixels are 0.

        Whole-word arithmetic on RGBX is the fastest form in NumPy (measured by speed/media.py): a table look-up
        first widens its indices to 64 bits, and 8-bit channels at stride 3 cannot be vectorised.
        """
        size = self.size
        words = np.frombuffer(image.tobytes("raw", "RGBX"), "<i4").reshape(image.height, image.width)
        if left < 0 or top < 0:
            words, left, top = _padded(words, left, top, size)
        words = words[top : top + size, left : left + size]
        channel = np.empty((size, size), np.int32)
        for index, plane in enumerate(out):
            np.right_shift(words, 8 * index, out=channel)
            np.bitwise_and(channel, 255, out=channel)
            plane[...] = channel
            plane /= np.float32(255)
            plane -= self._mean[index]
            plane /= self._std[index]


def _resized(width: int, height: int, shorter: int) -> tuple[int, int]:
    """torchvision's ``Resize(int)``: the longer side is rounded down."""
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter


def _centre(length: int, size: int) -> int:
    """torchvision's ``CenterCrop``: halves go to the even neighbour; an image that is too small is padded first."""
    if length < size:
        return -((size - length) // 2)
    return round((length - size) / 2)


def _padded(words: NDArray[np.int32], left: int, top: int, size: int) -> tuple[NDArray[np.int32], int, int]:
    """``words`` on a black ground that is at least ``size`` in both directions, and the window in it."""
    high, wide = max(words.shape[0], size), max(words.shape[1], size)
    ground = np.zeros((high, wide), np.int32)
    y, x = max(-top, 0), max(-left, 0)
    ground[y : y + words.shape[0], x : x + words.shape[1]] = words
    return ground, max(left, 0), max(top, 0)
