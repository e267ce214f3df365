"""COCO box AP of detections: the metric of ELEVATER's detection sets.

Reference: pycocotools ``COCOeval`` with its defaults for boxes, of which faster-coco-eval is the kept successor.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.metrics.classification import MetricError

STATISTICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@dataclass(frozen=True, slots=True)
class BoxScores:
    """``statistics`` by the names of :data:`STATISTICS`, -1 where no box is of that size; AP by category name."""

    statistics: dict[str, float]
    categories: dict[str, float]

    @property
    def ap(self) -> float:
        return self.statistics["AP"]


def coco_ap(truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]]) -> BoxScores:
    """Score ``detections`` (``image_id``, ``category_id``, ``bbox`` in x, y, w, h, ``score``) against a COCO document.

    Raises :class:`MetricError` where a detection names an image or category that the document does not have.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    images = {image["id"] for image in truth["images"]}
    names = {category["id"]: category["name"] for category in truth["categories"]}
    for position, found in enumerate(detections):
        if found["image_id"] not in images or found["category_id"] not in names:
            raise MetricError(
                f"COCO AP: detection {position} is of image {found['image_id']!r} and category "
                f"{found['category_id']!r}, of which one is not in the annotations"
            )
    if not detections:
        return BoxScores(dict.fromkeys(STATISTICS, 0.0), dict.fromkeys(names.values(), 0.0))
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO(dict(truth))
        evaluation = COCOeval_faster(known, known.loadRes([dict(found) for found in detections]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"]  # (thresholds, recalls, categories, areas, most detections)
    by_name = {}
    for place, category in enumerate(evaluation.params.catIds):
        own = precision[:, :, place, 0, -1]
        own = own[own > -1]
        by_name[names[category]] = float(np.mean(own)) if own.size else float("nan")
    statistics = {name: float(value) for name, value in zip(STATISTICS, evaluation.stats, strict=False)}
    return BoxScores(statistics, by_name)
