"""The outputs of a closed-set detector as boxes and probabilities, as its card's ``detection.decode`` says.

The forms are those of the usual exports: YOLOX (arXiv 2107.08430, section 2.1), YOLOv5 to YOLO11, SSD (arXiv
1512.02325, section 2.2), DETR (arXiv 2005.12872) and RT-DETR (arXiv 2304.08069), and graphs that end in their own NMS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from models.catalog.card import Card
from models.catalog.detection import Decode
from models.catalog.roles import Role
from services.detection.protocol import Array
from services.errors import Kind, Problem
from services.runtime.problems import model_file_unreadable
from services.runtime.protocol import Tensor

Decoded = tuple[Array, Array]
"""``boxes (N, 4)`` in pixels of the network's input and ``scores (N, C)``."""


class ClosedSet:
    """Reads what one card's outputs hold. ``outputs`` are the names to ask the model for.

    ``batched``: they have an axis of pictures. A graph that ends in its own NMS may have none; its pictures run one by
    one.

    >>> card = Card.read(folder)  # doctest: +SKIP
    >>> boxes, scores = ClosedSet(card, folder, classes=80).read(outputs, 0, (640, 640))  # doctest: +SKIP
    """

    def __init__(self, card: Card, folder: Path, classes: int) -> None:
        decode = None if card.detection is None else card.detection.decode
        assert decode is not None
        self._decode = decode
        self._name = card.name
        self._classes = classes
        separate = decode.layout == "separate"
        wanted: tuple[Role, ...] = ("boxes", "scores", "labels", "count") if separate else ("detections",)
        self._roles = {role: card.roles[role] for role in wanted if role in card.roles}
        self.outputs = tuple(self._roles.values())
        ranks = {self._roles[role]: _rank(role, self._roles) for role in self._roles}
        self.batched = all(len(spec.shape) > ranks[spec.name] for spec in card.outputs if spec.name in ranks)
        self._priors = None if decode.priors is None else _read_priors(card, folder / decode.priors)

    def read(self, outputs: Mapping[str, Tensor], index: int, shape: tuple[int, int]) -> Decoded:
        """Boxes and scores of picture ``index`` of a batch whose tensors are ``shape``: height, width.

        Raises ``model-outputs-differ`` where they are not what the card says.
        """
        try:
            tensors = {role: self._of(outputs[name], index, role) for role, name in self._roles.items()}
            if self._decode.layout == "rows":
                boxes, scores = self._rows(tensors["detections"])
            elif self._decode.layout == "joined":
                boxes, scores = self._joined(tensors["detections"])
            else:
                boxes, scores = self._separate(tensors)
            return self._boxes(boxes, shape), self._known(scores)
        except (KeyError, ValueError, IndexError) as error:
            raise Problem(
                Kind.INTERNAL,
                "model-outputs-differ",
                "The model's outputs are not as its card says",
                f"{self._name}: {error}",
                remedy="Import the model again.",
            ) from error

    def _of(self, output: Tensor, index: int, role: Role) -> Tensor:
        """The part of one picture."""
        picture: Tensor = output[index] if output.ndim > _rank(role, self._roles) or output.dtype == object else output
        return picture

    def _separate(self, tensors: Mapping[Role, Tensor]) -> Decoded:
        boxes = np.asarray(tensors["boxes"], np.float32).reshape(-1, 4)
        scores = np.asarray(tensors["scores"], np.float32)
        if "labels" in tensors:
            filled = int(np.ravel(tensors["count"])[0]) if "count" in tensors else len(boxes)
            labels = np.ravel(tensors["labels"])[:filled]
            return boxes[:filled], self._one_hot(np.ravel(scores)[:filled], labels)
        return boxes, self._probabilities(scores.reshape(len(boxes), -1))

    def _joined(self, rows: Tensor) -> Decoded:
        rows = np.asarray(rows.T if self._decode.transposed else rows, np.float32)
        if not self._decode.objectness:
            return rows[:, :4], self._probabilities(rows[:, 4:])
        scores = self._probabilities(rows[:, 5:])
        return rows[:, :4], scores * self._activated(rows[:, 4:5])

    def _rows(self, rows: Tensor) -> Decoded:
        rows = np.asarray(rows, np.float32)
        if rows.shape[1] == 7:  # the number of the picture, box, class, score
            return rows[:, 1:5], self._one_hot(rows[:, 6], rows[:, 5])
        return rows[:, :4], self._one_hot(rows[:, 4], rows[:, 5])

    def _one_hot(self, scores: Tensor, labels: Tensor) -> Array:
        """``(N, C)``: each box's score in the column of its class; rows that fill up the tensor name none."""
        places = labels.astype(np.int64)
        wide = self._classes + (self._decode.background is not None)
        if self._decode.background == "first":
            places = places - 1
            wide -= 1
        table = np.zeros((len(places), wide), np.float32)
        rows = np.flatnonzero((places >= 0) & (places < wide))
        table[rows, places[rows]] = self._activated(np.asarray(scores, np.float32))[rows]
        return table

    def _probabilities(self, scores: Array) -> Array:
        scores = self._activated(scores)
        match self._decode.background:
            case "first":
                return scores[:, 1:]
            case "last":
                return scores[:, :-1]
            case None:
                return scores

    def _activated(self, scores: Array) -> Array:
        match self._decode.scores:
            case "sigmoid":
                return np.asarray(0.5 * (1 + np.tanh(0.5 * scores)), np.float32)
            case "softmax" if scores.ndim == 2 and scores.shape[1] > 1:
                shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
                return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float32)
            case _:
                return scores

    def _boxes(self, boxes: Array, shape: tuple[int, int]) -> Array:
        """Edges in pixels of the network's input, from whatever way they are written."""
        high, wide = shape
        match self._decode.box:
            case "yxyx":
                boxes = boxes[:, [1, 0, 3, 2]]
            case "cxcywh":
                boxes = _edges(boxes)
            case "grid":
                corners, strides = cells(self._decode.strides, high, wide)
                centres = (boxes[:, :2] + corners) * strides
                boxes = _edges(np.concatenate([centres, np.exp(boxes[:, 2:].clip(max=20)) * strides], axis=1))
            case "priors":
                assert self._priors is not None
                boxes = _edges(from_priors(boxes, self._priors, self._decode))
            case "xyxy":
                pass
        if self._decode.unit:
            boxes = boxes * np.array([wide, high, wide, high], np.float32)
        return np.asarray(boxes, np.float32)

    def _known(self, scores: Array) -> Array:
        if scores.shape[1] != self._classes:
            raise ValueError(f"there are scores of {scores.shape[1]} classes, and {self._classes} labels")
        return scores


def _rank(role: Role, roles: Mapping[Role, str]) -> int:
    """How many axes the tensor of one picture has."""
    if role == "scores" and "labels" in roles:
        return 1
    return {"labels": 1, "count": 0}.get(role, 2)


def _edges(boxes: Array) -> Array:
    """Centre and size to edges."""
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


@lru_cache(maxsize=16)
def cells(strides: Sequence[int], high: int, wide: int) -> tuple[Array, Array]:
    """Columns and rows ``(N, 2)``, and strides ``(N, 1)``, of the cells of a picture, level by level, row by row.

    >>> cells((32,), 32, 64)[0].tolist()
    [[0.0, 0.0], [1.0, 0.0]]
    """
    corners, sizes = [], []
    for stride in strides:
        rows, columns = np.mgrid[0 : -(-high // stride), 0 : -(-wide // stride)]
        corners.append(np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float32))
        sizes.append(np.full((rows.size, 1), stride, np.float32))
    return np.concatenate(corners), np.concatenate(sizes)


def from_priors(deltas: Array, priors: Array, decode: Decode) -> Array:
    """Centre and size from differences to ``priors (N, 4)``, themselves centre and size (SSD, equation 2)."""
    variances = np.asarray(decode.variances, np.float32)
    centres = priors[:, :2] + deltas[:, :2] * variances[:2] * priors[:, 2:]
    sizes = priors[:, 2:] * np.exp((deltas[:, 2:] * variances[2:]).clip(max=20))
    return np.concatenate([centres, sizes], axis=1)


def _read_priors(card: Card, path: Path) -> NDArray[np.float32]:
    """Raises ``model-file-unreadable``."""
    try:
        return np.asarray(load_file(path)["priors"], np.float32).reshape(-1, 4)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise model_file_unreadable(card.name, path.name, None) from error
