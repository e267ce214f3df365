"""What a detector finds in a split, scored as COCO scores boxes; boxes that are ignored are crowds to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from services.datasets.package import Stored
from services.detection.boxes import Indices, candidates, nms
from services.finetuning.detection.photos import Photo, Photos
from services.metrics.detection import BoxScores, coco_ap

Array = NDArray[np.float32]

LEAST = 0.01
"""Scores below are left out; COCO's AP looks at the best 100 of a picture."""
OVERLAP = 0.6
MOST = 100


def score(detector: nn.Module, photos: Photos, classes: Sequence[str], told: Callable[[int], None]) -> BoxScores:
    """AP of ``detector`` (pictures to boxes, scores, features); ``told`` hears after how many photos it is."""
    found: list[dict[str, Any]] = []
    for number in range(len(photos)):
        boxes, scores, labels = found_in(detector, photos[number], LEAST)
        for box, score_, label in zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True):
            left, top, right, bottom = box
            found.append(
                {
                    "image_id": number + 1,
                    "category_id": label + 1,
                    "bbox": [left, top, right - left, bottom - top],
                    "score": score_,
                }
            )
        told(number + 1)
    return coco_ap(document(photos.samples, classes), found)


def found_in(detector: nn.Module, photo: Photo, least: float) -> tuple[Array, Array, Indices]:
    """What is found in a photo, best first: boxes ``(M, 4)`` in its own pixels, scores and labels ``(M,)``."""
    with torch.no_grad():
        boxes, scores, _ = detector.eval()(photo.image[None])
    inside, table = photo.placement.boxes_to_picture(boxes[0].numpy()), scores[0].numpy()
    places, labels = candidates(table, least)
    kept = nms(inside[places], table[places, labels], labels, OVERLAP, most=MOST)
    return inside[places][kept], table[places, labels][kept], labels[kept]


def document(samples: Sequence[Stored], classes: Sequence[str]) -> dict[str, Any]:
    """A COCO document of ``samples``: images and categories are numbered from 1."""
    notes: list[dict[str, Any]] = []
    for number, stored in enumerate(samples, 1):
        for box in stored.sample.boxes:
            left, top, right, bottom = box.xyxy
            size = [right - left, bottom - top]
            notes.append(
                {
                    "id": len(notes) + 1,
                    "image_id": number,
                    "category_id": box.label + 1,
                    "bbox": [left, top, *size],
                    "area": float(np.prod(size)),
                    "iscrowd": int(box.ignore),
                }
            )
    return {
        "images": [
            {"id": number, "width": stored.width, "height": stored.height} for number, stored in enumerate(samples, 1)
        ],
        "annotations": notes,
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, 1)],
    }
