"""Pictures to model tensors, as torchvision's evaluation transforms make them, without torch; where they lie there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.catalog.geometry import (
    ImageGeometry,
    ImagePreprocess,
    LongerSide,
    Native,
    ShorterSide,
    Stretched,
    next_multiple,
)
from services.media.image import Picture

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_LARGEST_RESIZE = 1 << 25
"""Pixels. A long strip scaled up whole could take gigabytes, of which the crop keeps a square."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A picture of ``picture`` (width, height) is scaled to ``width`` by ``height``; the tensor shows a part of that.

    The tensor's first pixel is at ``left, top`` of the scaled picture: above 0 the picture was cropped, below it was
    padded. ``shape`` is the tensor's height and width.
    """

    picture: tuple[int, int]
    width: int
    height: int
    left: int
    top: int
    shape: tuple[int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """Tensor pixels a pixel of the picture, across and down."""
        return self.width / self.picture[0], self.height / self.picture[1]

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """Tensor pixels beside the picture: left, top, right, bottom."""
        right, bottom = self.shape[1] + self.left - self.width, self.shape[0] + self.top - self.height
        return max(-self.left, 0), max(-self.top, 0), max(right, 0), max(bottom, 0)

    def window(self) -> tuple[float, float, float, float]:
        """The part of the picture that the tensor shows: left, top, right, bottom in the picture's pixels.

        It reaches beyond the picture where that was padded.
        """
        if self.shape == (self.height, self.width) and self.left == self.top == 0:
            return 0.0, 0.0, float(self.picture[0]), float(self.picture[1])
        x, y = self.picture[0] / self.width, self.picture[1] / self.height
        return self.left * x, self.top * y, (self.left + self.shape[1]) * x, (self.top + self.shape[0]) * y

    def boxes_to_picture(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(N, 4) float32`` left, top, right, bottom of the tensor as those of the picture, cut at its edges."""
        back = np.array([self.left, self.top] * 2, np.float64) + boxes
        back *= np.array([self.picture[0] / self.width, self.picture[1] / self.height] * 2)
        return back.clip(0, [*self.picture, *self.picture]).astype(np.float32)

    def boxes_to_tensor(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(N, 4) float32`` left, top, right, bottom of the picture as those of the tensor."""
        there = boxes * np.array([*self.scale] * 2) - np.array([self.left, self.top] * 2)
        return np.asarray(there, np.float32)


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
        self._order = (0, 1, 2) if spec.channels == "rgb" else (2, 1, 0)
        self._mean = np.asarray(spec.mean, np.float32)
        self._std = np.asarray(spec.std, np.float32)
        # A crop that reaches beyond the picture is black there, as torchvision's is.
        fill = (0, 0, 0) if isinstance(spec, ImagePreprocess | Stretched) else spec.fill
        ground = (np.asarray(fill, np.float32) / 255 - self._mean) / self._std if fill != "mean" else np.zeros(3)
        self._ground: NDArray[np.float32] = ground.astype(np.float32)

    def placement(self, width: int, height: int) -> Placement:
        """Return where a picture of this size lies in its tensor, and how large the tensor is."""
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
            out[...] = self._ground[list(self._order), None, None]

        channel = np.empty(words.shape, np.int32)
        for index, plane in zip(self._order, out[:, y : y + high, x : x + wide], strict=True):
            np.right_shift(words, 8 * index, out=channel)
            np.bitwise_and(channel, 255, out=channel)
            plane[...] = channel
            plane /= np.float32(255)
            plane -= self._mean[index]
            plane /= self._std[index]


def place(geometry: ImageGeometry, width: int, height: int) -> Placement:
    """Return where ``geometry`` puts a picture of this size.

    >>> place(LongerSide(size=640), 1280, 800).padding
    (0, 0, 0, 240)
    """
    picture = (width, height)
    match geometry:
        case ImagePreprocess(mode="squash", size=size):
            return Placement(picture, size, size, 0, 0, (size, size))
        case Stretched(width=wide, height=high):
            return Placement(picture, wide, high, 0, 0, (high, wide))
        case ImagePreprocess(size=size, resize=resize):
            # size / 0.875 rounded down, in integers; int(256 / 224 * size) is the same for every size a card allows
            wide, high = _shorter_to(resize if resize is not None else size * 8 // 7, width, height)
            return Placement(picture, wide, high, _centre(wide, size), _centre(high, size), (size, size))
        case LongerSide(size=size, multiple=multiple, centred=centred):
            wide, high = _longer_to(size, width, height)
            shape = (size, size) if multiple is None else (next_multiple(high, multiple), next_multiple(wide, multiple))
            left, top = (-((shape[1] - wide) // 2), -((shape[0] - high) // 2)) if centred else (0, 0)
            return Placement(picture, wide, high, left, top, shape)
        case ShorterSide(size=size, max_size=most, multiple=multiple):
            wide, high = _shorter_to(size, width, height, most)
        case Native(max_size=most, multiple=multiple):
            wide, high = _longer_to(most, width, height) if max(width, height) > most else picture

    shape = (next_multiple(high, multiple), next_multiple(wide, multiple))
    return Placement(picture, wide, high, 0, 0, shape)


def _longer_to(size: int, width: int, height: int) -> tuple[int, int]:
    """The other side to the nearest pixel, halves up, in integers."""
    longer = max(width, height)
    wide, high = ((2 * side * size + longer) // (2 * longer) for side in (width, height))
    return max(wide, 1), max(high, 1)


def _shorter_to(size: int, width: int, height: int, most: int | None = None) -> tuple[int, int]:
    """torchvision's ``Resize(size, max_size)``: the other side is rounded down."""
    shorter, longer = min(width, height), max(width, height)
    short, long = size, int(size * longer / shorter)
    if most is not None and long > most:
        short, long = max(int(most * short / long), 1), most
    return (short, long) if width <= height else (long, short)


def _centre(length: int, size: int) -> int:
    """torchvision's ``CenterCrop``: halves go to the even neighbour; an image that is too small is padded first."""
    if length < size:
        return -((size - length) // 2)
    return round((length - size) / 2)
