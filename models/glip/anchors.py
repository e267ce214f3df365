"""Anchors of GLIP: one square a place, eight times the level's stride, in NumPy.

Reference: ``anchor_generator.py`` of microsoft/GLIP. Boxes are ``x1, y1, x2, y2`` in pixels, both corners inside: a
box is ``x2 - x1 + 1`` wide, here and everywhere in GLIP.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

STRIDES = (8, 16, 32, 64, 128)
SIZES = (64, 128, 256, 512, 1024)


def cell_anchor(size: int, stride: int) -> Floats:
    """The anchor of a level's first place, ``(4,) float32``; its centre is the centre of the place's pixels."""
    centre, half = (stride - 1) / 2, (size - 1) / 2
    return np.array([centre - half, centre - half, centre + half, centre + half], np.float32)


def level_anchors(height: int, width: int, size: int, stride: int) -> Floats:
    """The anchors of one level, ``(height * width, 4) float32``, row by row.

    >>> level_anchors(1, 2, 64, 8).tolist()
    [[-28.0, -28.0, 35.0, 35.0], [-20.0, -28.0, 43.0, 35.0]]
    """
    down, right = np.mgrid[:height, :width].astype(np.float32) * stride
    shifts = np.stack([right, down, right, down], axis=-1).reshape(-1, 4)
    return shifts + cell_anchor(size, stride)


def anchors(
    shapes: Sequence[tuple[int, int]], sizes: Sequence[int] = SIZES, strides: Sequence[int] = STRIDES
) -> list[Floats]:
    """The anchors of levels of ``shapes`` (height, width), finest first."""
    return [
        level_anchors(height, width, size, stride)
        for (height, width), size, stride in zip(shapes, sizes, strides, strict=True)
    ]
