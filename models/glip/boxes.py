"""Boxes and the numbers that a network says of them, in NumPy: ``box_coder.py`` of microsoft/GLIP.

Boxes are ``x1, y1, x2, y2`` in pixels, both corners inside: everything here counts widths one larger than their
difference.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""What the differences of centres and of sizes are multiplied with."""

MOST_GROWTH = 1000 / 16
"""How many times its anchor a box may be wide or high."""


def encode(boxes: Floats, anchors: Floats) -> Floats:
    """Boxes as differences to anchors, ``(N, 4) float32`` each."""
    (centre, size), (anchor_centre, anchor_size) = _centre_size(boxes), _centre_size(anchors)
    moved = (centre - anchor_centre) / anchor_size * np.float32(WEIGHTS[0])
    grown = np.log(size / anchor_size) * np.float32(WEIGHTS[2])
    return np.concatenate([moved, grown], axis=-1)


def decode(deltas: Floats, anchors: Floats) -> Floats:
    """Differences to anchors as boxes, ``(..., 4) float32`` each.

    >>> decode(np.zeros((1, 4), np.float32), np.array([[0, 0, 9, 19]], np.float32)).tolist()
    [[0.0, 0.0, 9.0, 19.0]]
    """
    centre, size = _centre_size(anchors)
    centre = centre + deltas[..., :2] / np.float32(WEIGHTS[0]) * size
    size = size * np.exp(np.minimum(deltas[..., 2:] / np.float32(WEIGHTS[2]), np.float32(math.log(MOST_GROWTH))))
    half = 0.5 * (size - 1)
    return np.concatenate([centre - half, centre + half], axis=-1).astype(np.float32)


def clip(boxes: Floats, height: int, width: int) -> Floats:
    """Boxes inside a picture, ``(..., 4) float32``."""
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float32) - 1)


def overlaps(box: Floats, boxes: Floats) -> Floats:
    """Intersection over union of one box ``(4,)`` with ``(N, 4)``, ``(N,) float32``."""
    shared = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]) + 1
    intersection = np.maximum(shared, 0).prod(axis=-1)
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=-1)
    union = (box[2:] - box[:2] + 1).prod() + areas - intersection
    return np.asarray(intersection / union, np.float32)


def suppressed(boxes: Floats, scores: Floats, threshold: float) -> NDArray[np.int64]:
    """Which of ``boxes (N, 4)`` with ``scores (N,)`` remain, best first, when each leaves out those after it that
    overlap it by more than ``threshold``: ``(K,) int64``."""
    order = np.argsort(-scores, kind="stable")
    kept = []
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(first)
        order = rest[overlaps(boxes[first], boxes[rest]) <= threshold]
    return np.asarray(kept, np.int64)


def _centre_size(boxes: Floats) -> tuple[Floats, Floats]:
    low, high = boxes[..., :2], boxes[..., 2:]
    return np.asarray((low + high) / 2, np.float32), np.asarray(high - low + 1, np.float32)
