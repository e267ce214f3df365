"""Arithmetic of boxes: overlaps, and the suppression of boxes that show the same (NMS), in NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.detection.protocol import Array

Indices = NDArray[np.int64]

MOST_CANDIDATES = 10_000
"""Pairs of a box and a label, the best, that suppression looks at: with a low threshold there may be millions."""


def overlaps(box: Array, boxes: Array, *, inclusive: bool = False) -> Array:
    """Intersection over union ``(N,)`` of ``box (4,)`` with each of ``boxes (N, 4)``, edges left, top, right, bottom.

    ``inclusive`` counts the pixel of the right and of the lower edge: widths are one more, as in Caffe's code and all
    that descends from it. Two boxes without area overlap by 0.

    >>> overlaps(np.array([0, 0, 2, 2], np.float32), np.array([[1, 0, 3, 2]], np.float32)).round(3).tolist()
    [0.3330000042915344]
    """
    one = np.float32(inclusive)
    wide = np.minimum(box[2], boxes[:, 2]) - np.maximum(box[0], boxes[:, 0]) + one
    high = np.minimum(box[3], boxes[:, 3]) - np.maximum(box[1], boxes[:, 1]) + one
    common = wide.clip(0) * high.clip(0)
    area = (boxes[:, 2] - boxes[:, 0] + one) * (boxes[:, 3] - boxes[:, 1] + one)
    own = (box[2] - box[0] + one) * (box[3] - box[1] + one)
    return np.asarray(common / np.maximum(own + area - common, np.float32(1e-12)), np.float32)


def nms(
    boxes: Array, scores: Array, labels: Indices, iou: float, *, most: int | None = None, inclusive: bool = False
) -> Indices:
    """Indices of the boxes that are kept, best first, at most ``most``: greedy suppression inside each label.

    A box goes where one of its own label with a higher score overlaps it by more than ``iou``. ``boxes (N, 4)``,
    ``scores (N,)``, ``labels (N,)``; boxes of one score keep their order.
    """
    order: Indices = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(order) and (most is None or len(kept) < most):
        best, rest = order[0], order[1:]
        kept.append(int(best))
        same = labels[rest] == labels[best]
        near = overlaps(boxes[best], boxes[rest], inclusive=inclusive) > iou
        order = rest[~(same & near)]
    return np.array(kept, np.int64)


def candidates(scores: Array, threshold: float) -> tuple[Indices, Indices]:
    """Boxes and labels ``(K,)`` each of the entries of ``scores (N, L)`` that reach ``threshold``, best first.

    At most ``MOST_CANDIDATES``; those of one score in the order of the boxes.
    """
    flat = scores.ravel()
    found: Indices = np.flatnonzero(flat >= threshold)
    if len(found) > MOST_CANDIDATES:
        bound = np.partition(flat[found], -MOST_CANDIDATES)[-MOST_CANDIDATES]
        found = found[flat[found] >= bound]
    found = found[np.argsort(-flat[found], kind="stable")][:MOST_CANDIDATES]
    box, label = np.divmod(found, scores.shape[1])
    return box, label
