"""Proposals of the exported NanoDet without its classes, for what is trained offline; serving has its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]

LONGER, MULTIPLE = 416, 32
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
SCALE = np.array([0.017125, 0.017507, 0.017429], np.float32)
CANDIDATES = 1000
OVERLAP = 0.7


class Proposer:
    """Boxes ``(N, 4)`` of a photo in its pixels, by the best score of any class, at most ``most``."""

    def __init__(self, model: Path, most: int = 300) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._most = most

    def __call__(self, photo: Image.Image) -> Array:
        pixels, scale = fitted(photo, LONGER, Image.Resampling.BILINEAR)
        image = ((pixels - MEAN) * SCALE).transpose(2, 0, 1)[None]
        boxes, scores = self._session.run(["boxes", "scores"], {"image": np.ascontiguousarray(image)})
        best = scores[0].max(axis=1)
        order = np.argsort(-best, kind="stable")[:CANDIDATES]
        edges = [photo.width, photo.height] * 2
        inside = (boxes[0][order] / scale).clip(0, edges).astype(np.float32)
        inside = inside[((inside[:, 2:] - inside[:, :2]) > 1).all(axis=1)]
        return apart(inside, OVERLAP)[: self._most]


def fitted(photo: Image.Image, longer: int, resample: Image.Resampling, ground: int = 0) -> tuple[Array, Array]:
    """Levels ``(H, W, 3)``, ``ground`` beside the photo, sides multiples of 32; and its scale, for boxes ``(4,)``."""
    share = longer / max(photo.size)
    width, height = (max(1, int(side * share + 0.5)) for side in photo.size)
    shape = (-(-height // MULTIPLE) * MULTIPLE, -(-width // MULTIPLE) * MULTIPLE, 3)
    pixels = np.full(shape, ground, np.float32)
    pixels[:height, :width] = np.asarray(photo.resize((width, height), resample))
    return pixels, np.array([width / photo.width, height / photo.height] * 2, np.float32)


def apart(boxes: Array, overlap: float) -> Array:
    """``boxes``, best first, without those that overlap a better one by more than ``overlap``."""
    sizes = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    kept: list[int] = []
    for index in range(len(boxes)):
        low = np.maximum(boxes[kept, :2], boxes[index, :2])
        high = np.minimum(boxes[kept, 2:], boxes[index, 2:])
        common = (high - low).clip(0).prod(axis=1)
        if not (common > overlap * (sizes[kept] + sizes[index] - common)).any():
            kept.append(index)
    return boxes[kept]
