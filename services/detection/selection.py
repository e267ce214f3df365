"""Which boxes of a picture are answered: those that reach the threshold, without those that show the same, the best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.catalog.card import Card
from models.catalog.detection import Detection
from services.detection.answers import Limits
from services.detection.boxes import Indices, candidates, nms
from services.detection.protocol import Array, Found
from services.errors import Kind, Problem


@dataclass(frozen=True, slots=True)
class Selection:
    """What is answered of one picture, best first: ``boxes (K, 4)``, ``scores (K,)``, and labels' numbers ``(K,)``."""

    boxes: Array
    scores: Array
    labels: Indices


@dataclass(frozen=True, slots=True)
class Rule:
    """A request's limits over those of a card."""

    threshold: float
    most: int
    iou: float | None
    inclusive: bool

    @staticmethod
    def of(card: Card, limits: Limits) -> Rule:
        """``card.detection``, or what is usual, where the request does not say."""
        usual = card.detection or Detection()
        return Rule(
            usual.threshold if limits.threshold is None else limits.threshold,
            usual.max_detections if limits.max_detections is None else limits.max_detections,
            usual.nms_iou if limits.nms_iou is None else limits.nms_iou,
            usual.inclusive,
        )

    def select(self, found: Found, model: str) -> Selection:
        """Raises ``model-not-finite``."""
        if not all(np.isfinite(part).all() for part in (found.boxes, found.scores, found.presence)):
            raise Problem(Kind.INTERNAL, "model-not-finite", "The model's answer is not a number", f"{model} gave NaN.")
        places, labels = candidates(found.scores, self.threshold)
        boxes, scores = found.boxes[places], found.scores[places, labels]
        if self.iou is None or self.iou >= 1:
            kept: Indices = np.arange(min(self.most, len(places)), dtype=np.int64)
        else:
            kept = nms(boxes, scores, labels, self.iou, most=self.most, inclusive=self.inclusive)
        return Selection(boxes[kept], scores[kept], labels[kept])
