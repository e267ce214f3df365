"""From what the head says of places and tokens to boxes with labels, in NumPy.

Reference: ``ATSSPostProcessor`` in ``maskrcnn_benchmark/modeling/rpn/inference.py`` of microsoft/GLIP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.glip.anchors import anchors
from models.glip.boxes import Floats, clip, decode, suppressed

Indices = NDArray[np.int64]
Aggregate = Literal["MEAN", "MAX", "POWER"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What is kept. ``threshold`` holds for the probability of a label before it is weighted by centerness."""

    threshold: float = 0.05
    per_level: int = 1000
    nms: float = 0.6
    most: int = 100
    aggregate: Aggregate = "MEAN"


@dataclass(frozen=True, slots=True)
class HeadArrays:
    """The head's outputs for one picture, finest level first: logits ``(h * w, T)``, deltas ``(4, h, w)`` and
    centerness ``(1, h, w)``, all float32."""

    logits: Sequence[Floats]
    deltas: Sequence[Floats]
    centerness: Sequence[Floats]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Places that may be a box: ``boxes (N, 4)`` in pixels of the tensor, ``scores (N, L)``, 0 for what is unlikely."""

    boxes: Floats
    scores: Floats


@dataclass(frozen=True, slots=True)
class Boxes:
    """What is found, best first: ``boxes (K, 4)``, ``scores (K,)``, and labels' numbers ``(K,)``."""

    boxes: Floats
    scores: Floats
    labels: Indices


def label_probabilities(logits: Floats, tokens: Sequence[Sequence[int]], aggregate: Aggregate = "MEAN") -> Floats:
    """``(N, T)`` logits to ``(N, L)`` probabilities of labels, each from those of its ``tokens``; 0 without any.

    The mean of them, the largest, or their geometric mean.
    """
    probabilities = sigmoid(logits)
    found = np.zeros((len(logits), len(tokens)), np.float32)
    for label, own in enumerate(tokens):
        if not len(own):
            continue
        part = probabilities[:, list(own)]
        match aggregate:
            case "MEAN":
                found[:, label] = part.mean(axis=1)
            case "MAX":
                found[:, label] = part.max(axis=1)
            case "POWER":
                found[:, label] = np.exp(np.log(np.maximum(part, np.float32(1e-38))).mean(axis=1))
    return found


def candidates(
    head: HeadArrays, tokens: Sequence[Sequence[int]], size: tuple[int, int], rule: Rule | None = None
) -> Candidates:
    """Places where some label is likely, of each level the most likely pairs of place and label.

    ``size`` is height and width of the picture inside the tensor. A score is the geometric mean of the label's
    probability and the centerness.
    """
    rule = rule or Rule()
    shapes = [(deltas.shape[1], deltas.shape[2]) for deltas in head.deltas]
    boxes, scores = [], []
    for level, level_anchors in enumerate(anchors(shapes)):
        probabilities = label_probabilities(head.logits[level], tokens, rule.aggregate)
        likely = probabilities > np.float32(rule.threshold)
        weighted = np.where(likely, probabilities * sigmoid(head.centerness[level].reshape(-1, 1)), np.float32(0))
        weighted = _best(weighted, rule.per_level)

        places = np.flatnonzero(weighted.any(axis=1))
        deltas = head.deltas[level].reshape(4, -1).T[places]
        boxes.append(clip(decode(deltas, level_anchors[places]), *size))
        scores.append(np.sqrt(weighted[places]))
    return Candidates(np.concatenate(boxes), np.concatenate(scores))


def detections(found: Candidates, rule: Rule | None = None) -> Boxes:
    """The best boxes, those left out that overlap a better one of their own label.

    As many as the rule says, and all that score the same as the last of them.
    """
    rule = rule or Rule()
    boxes, scores, labels = [], [], []
    for label in range(found.scores.shape[1]):
        places = np.flatnonzero(found.scores[:, label] > 0)
        kept = places[suppressed(found.boxes[places], found.scores[places, label], rule.nms)]
        boxes.append(found.boxes[kept])
        scores.append(found.scores[kept, label])
        labels.append(np.full(len(kept), label, np.int64))

    all_scores = np.concatenate(scores)
    order = np.argsort(-all_scores, kind="stable")
    if len(order) > rule.most:
        order = order[all_scores[order] >= all_scores[order[rule.most - 1]]]
    return Boxes(np.concatenate(boxes)[order], all_scores[order], np.concatenate(labels)[order])


def sigmoid(x: Floats) -> Floats:
    """Of any magnitude, without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)), np.float32)


def _best(scores: Floats, most: int) -> Floats:
    """``scores (N, L)`` with all but the ``most`` largest set to zero."""
    if np.count_nonzero(scores) <= most:
        return scores
    kept = np.argpartition(-scores, most - 1, axis=None)[:most]
    best = np.zeros_like(scores)
    best.flat[kept] = scores.flat[kept]
    return best
