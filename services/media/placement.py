"""Where a picture lies in the tensor that a network is given, and back: what boxes and maps need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.catalog.geometry import ImageGeometry, ImagePreprocess, LongerSide, Native, ShorterSide, next_multiple


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


def place(geometry: ImageGeometry, width: int, height: int) -> Placement:
    """Where ``geometry`` puts a picture of this size.

    >>> place(LongerSide(size=640), 1280, 800).padding
    (0, 0, 0, 240)
    """
    picture = (width, height)
    match geometry:
        case ImagePreprocess(mode="squash", size=size):
            return Placement(picture, size, size, 0, 0, (size, size))
        case ImagePreprocess(size=size, resize=resize):
            # size / 0.875 rounded down, in integers; int(256 / 224 * size) is the same for every size a card allows
            wide, high = _shorter_to(resize if resize is not None else size * 8 // 7, width, height)
            return Placement(picture, wide, high, _centre(wide, size), _centre(high, size), (size, size))
        case LongerSide(size=size, multiple=None):
            wide, high = _longer_to(size, width, height)
            return Placement(picture, wide, high, 0, 0, (size, size))
        case LongerSide(size=size, multiple=int(multiple)):
            wide, high = _longer_to(size, width, height)
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
