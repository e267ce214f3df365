"""Anchors to proposals, and class probabilities to detections, in NumPy: as the reference does, and as it should have.

The reference ranks by the root of class probability times objectness, and takes for objectness the raw output of the
proposal network, a logit: a score may be above 1, and a negative logit makes every score of its proposal NaN, which is
then dropped without a word. ``squash`` takes its sigmoid, so that each proposal keeps a score between 0 and 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Indices = NDArray[np.int64]

Objectness = Literal["ignore", "raw", "squash"]


@dataclass(frozen=True, slots=True)
class Rule:
    """``objectness``: not used, as the reference uses it, or between 0 and 1. ``threshold`` on the ranking score,
    ``overlap`` of two boxes of one class beyond which the lower is dropped, ``most`` detections a picture.

    ``shown`` ``probability``: detections are ranked by the score with objectness and report the one without, as the
    reference's demonstration does.
    """

    objectness: Objectness = "squash"
    threshold: float = 0.02
    overlap: float = 0.5
    most: int = 300
    shown: Literal["rank", "probability"] = "rank"


@dataclass(frozen=True, slots=True)
class Detections:
    """Best first: ``classes``, ``scores``, ``ranks`` ``(D,)``, number of the proposal ``(D,)`` and box ``(D, 4)``."""

    classes: Indices
    scores: Array
    ranks: Array
    proposals: Indices
    boxes: Array


@dataclass(frozen=True, slots=True)
class ProposalRule:
    """``per_level`` anchors of each level, the best, go to suppression at ``overlap`` inside their level; ``most`` are
    kept of all."""

    per_level: int = 1000
    overlap: float = 0.9
    most: int = 1000


def proposals(boxes: Array, objectness: Array, levels: Indices, rule: ProposalRule) -> Indices:
    """Numbers of the anchors that are proposals, best first.

    ``boxes`` ``(A, 4)`` of one picture, clipped to it, ``objectness`` logits ``(A,)``, ``levels`` ``(A,)``. Boxes
    without area are none.
    """
    kept = []
    for level in np.unique(levels):
        own = np.flatnonzero(levels == level)
        if len(own) > rule.per_level:
            own = own[np.argpartition(-objectness[own], rule.per_level)[: rule.per_level]]
        own = own[(boxes[own, 2:] > boxes[own, :2]).all(axis=1)]
        kept.append(own[nms(boxes[own], objectness[own], rule.overlap, rule.most)])
    every: Indices = np.concatenate(kept)
    return every[np.argsort(-objectness[every], kind="stable")][: rule.most]


def probabilities(logits: Array) -> Array:
    """Softmax along the last axis, ``(..., K + 1)``."""
    powers: Array = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def ranking(probabilities: Array, objectness: Array, how: Objectness) -> Array:
    """``(N, K)`` with objectness logits ``(N,)`` to ranking scores ``(N, K)``; ``raw`` gives NaN below 0."""
    if how == "ignore":
        return probabilities
    factor = objectness if how == "raw" else 0.5 * (1 + np.tanh(0.5 * objectness))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(probabilities * factor[:, None]), np.float32)


def detections(probabilities: Array, objectness: Array, boxes: Array, rule: Rule) -> Detections:
    """Proposals of one picture, ``boxes`` ``(N, 4)`` clipped to it, with ``probabilities`` ``(N, K + 1)``.

    The last column is background. Proposals whose row or box is not finite are dropped: with ``raw`` objectness those
    of a negative logit.
    """
    ranks = ranking(probabilities, objectness, rule.objectness)
    kept = np.isfinite(ranks).all(axis=1) & np.isfinite(boxes).all(axis=1)
    proposals = np.flatnonzero(kept)
    rows, classes = np.nonzero(ranks[kept, :-1] > rule.threshold)
    proposals = proposals[rows]
    scores = ranks[proposals, classes]

    best = np.concatenate(
        [np.flatnonzero(classes == one)[nms(boxes[proposals[classes == one]], scores[classes == one], rule.overlap)]
         for one in np.unique(classes)]
        or [np.zeros(0, np.int64)]
    )  # fmt: skip
    best = best[np.argsort(-scores[best], kind="stable")][: rule.most]
    proposals, classes = proposals[best], classes[best]
    shown = probabilities if rule.shown == "probability" else ranks
    return Detections(classes, shown[proposals, classes], ranks[proposals, classes], proposals, boxes[proposals])


def nms(boxes: Array, scores: Array, overlap: float, most: int | None = None) -> Indices:
    """Numbers of the boxes that no better box overlaps by more than ``overlap``, best first, at most ``most``.

    Boxes ``(N, 4)`` of one class. Sides are right minus left; an overlap of exactly ``overlap`` is kept.
    """
    order = np.argsort(-scores, kind="stable")
    boxes = boxes[order]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    alive = np.ones(len(boxes), bool)
    found: list[int] = []
    for index in range(len(boxes)):
        if not alive[index]:
            continue
        found.append(index)
        if len(found) == most:
            break
        low = np.maximum(boxes[index, :2], boxes[index + 1 :, :2])
        high = np.minimum(boxes[index, 2:], boxes[index + 1 :, 2:])
        common = (high - low).clip(0).prod(axis=1)
        union = areas[index] + areas[index + 1 :] - common
        alive[index + 1 :] &= ~(common > overlap * union)
    return np.asarray(order[found], np.int64)
