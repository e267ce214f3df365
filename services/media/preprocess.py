"""Pictures to model tensors, as torchvision's evaluation transforms make them, without torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.catalog.geometry import ImageGeometry, ImagePreprocess
from services.media.image import Picture
from services.media.placement import Placement, place

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_LARGEST_RESIZE = 1 << 25
"""Pixels. A long strip scaled up whole could take gigabytes, of which the crop keeps a square."""


class Preprocessor:
    """Resize, crop or pad, and normalise by one card's ``image``. Holds no state of a request: threads may share it.

    ``shorter-crop`` is ``Resize(resize)``, ``CenterCrop(size)``; ``squash`` is ``Resize((size, size))``; all forms are
    followed by ``ToTensor`` and ``Normalize(mean, std)``. Equal to torchvision on PIL images bit for bit.

    >>> picture = Picture(Image.new("RGB", (400, 300)), 400, 300, "PNG")
    >>> Preprocessor(ImagePreprocess(size=224)).batch([picture]).shape
    (1, 3, 224, 224)
    """

    def __init__(self, spec: ImageGeometry) -> None:
        self.spec = spec
        self._resample = _RESAMPLING[spec.interpolation]
        self._mean = np.asarray(spec.mean, np.float32)
        self._std = np.asarray(spec.std, np.float32)
        # A crop that reaches beyond the picture is black there, as torchvision's is.
        fill = (0, 0, 0) if isinstance(spec, ImagePreprocess) else spec.fill
        ground = (np.asarray(fill, np.float32) / 255 - self._mean) / self._std if fill != "mean" else np.zeros(3)
        self._ground: NDArray[np.float32] = ground.astype(np.float32)

    def placement(self, width: int, height: int) -> Placement:
        """Where a picture of this size lies in its tensor, and how large the tensor is."""
        return place(self.spec, width, height)

    def into(self, picture: Picture, out: NDArray[np.float32]) -> None:
        """Write ``picture`` into ``out``, ``(3, H, W) float32`` of any strides; ``ValueError`` if it is not."""
        image = picture.image
        placed = self.placement(image.width, image.height)
        if out.shape != (3, *placed.shape) or out.dtype != np.float32:
            raise ValueError(f"out is {out.dtype} {out.shape}, not float32 (3, {placed.shape[0]}, {placed.shape[1]})")
        left, top = placed.left, placed.top
        if placed.width * placed.height > _LARGEST_RESIZE:
            image = self._resize_part(image, placed)
            left, top = min(left, 0), min(top, 0)
        elif image.size != (placed.width, placed.height):
            image = image.resize((placed.width, placed.height), self._resample)
        self._normalise(image, left, top, out)

    def batch(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """A new ``(B, 3, H, W) float32`` array; ``ValueError`` where the pictures' tensors are not of one size."""
        shapes = {self.placement(picture.image.width, picture.image.height).shape for picture in pictures}
        if len(shapes) != 1:
            raise ValueError(f"{len(pictures)} pictures give tensors of {len(shapes)} sizes, which no batch can hold")
        out = np.empty((len(pictures), 3, *shapes.pop()), np.float32)
        for picture, view in zip(pictures, out, strict=True):
            self.into(picture, view)
        return out

    def _resize_part(self, image: Image.Image, placed: Placement) -> Image.Image:
        """The window of the resized image alone; equal to within one level of 255."""
        scale_x, scale_y = image.width / placed.width, image.height / placed.height
        left, top = max(placed.left, 0), max(placed.top, 0)
        wide, high = min(placed.shape[1], placed.width), min(placed.shape[0], placed.height)
        box = (left * scale_x, top * scale_y, (left + wide) * scale_x, (top + high) * scale_y)
        return image.resize((wide, high), self._resample, box)

    def _normalise(self, image: Image.Image, left: int, top: int, out: NDArray[np.float32]) -> None:
        """``((pixel / 255) - mean) / std`` of the window at ``left, top``; the ground lies outside the image.

        Whole-word arithmetic on RGBX is the fastest form in NumPy (measured by speed/media.py): a table look-up
        first widens its indices to 64 bits, and 8-bit channels at stride 3 cannot be vectorised.
        """
        words = np.frombuffer(image.tobytes("raw", "RGBX"), "<i4").reshape(image.height, image.width)
        x, y = max(-left, 0), max(-top, 0)
        words = words[max(top, 0) :, max(left, 0) :][: out.shape[1] - y, : out.shape[2] - x]
        high, wide = words.shape
        if words.shape != out.shape[1:]:
            out[...] = self._ground[:, None, None]
        channel = np.empty(words.shape, np.int32)
        for index, plane in enumerate(out[:, y : y + high, x : x + wide]):
            np.right_shift(words, 8 * index, out=channel)
            np.bitwise_and(channel, 255, out=channel)
            plane[...] = channel
            plane /= np.float32(255)
            plane -= self._mean[index]
            plane /= self._std[index]
