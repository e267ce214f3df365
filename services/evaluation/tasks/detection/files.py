"""Detections in a file against annotations in a file: COCO AP of any detector that wrote down what it found."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.errors import ModelError
from services.metrics.classification import MetricError
from services.metrics.detection import BoxScores, coco_ap

ANNOTATIONS = "a COCO document: an object with images, annotations (image_id, category_id, bbox) and categories"
DETECTIONS = "COCO results: a list of objects with image_id, category_id, bbox (x, y, width, height) and score"


def score_boxes(annotations: Path, detections: Path) -> BoxScores:
    """Raises :class:`ModelError` that says what of which file is wrong.

    Annotations are numbered from 1 whatever ids they have: COCO's program takes the id 0 for "not found".
    """
    truth, found = _read(annotations, ANNOTATIONS), _read(detections, DETECTIONS)
    if not isinstance(truth, dict) or not all(isinstance(truth.get(n), list) for n in ("images", "categories")):
        raise ModelError(f"{annotations} holds no images or no categories", f"it must be {ANNOTATIONS}")
    if not isinstance(found, list):
        raise ModelError(f"{detections} holds no list", f"it must be {DETECTIONS}")

    for kind, name in (("images", "id"), ("categories", "name")):
        for position, one in enumerate(truth[kind]):
            if not isinstance(one, dict) or "id" not in one or name not in one:
                raise ModelError(f"{annotations}: {kind}[{position}] lacks its id or name", f"it must be {ANNOTATIONS}")

    own = truth.get("annotations")
    boxes = [_box(annotations, n, one, ANNOTATIONS) for n, one in enumerate(own if isinstance(own, list) else [])]
    if not boxes:
        raise ModelError(f"{annotations} has no annotations, so there is nothing to be found", "name the right file")

    numbered = [
        {"area": one["bbox"][2] * one["bbox"][3], "iscrowd": 0, **one, "id": number}
        for number, one in enumerate(boxes, 1)
    ]
    results = [_box(detections, n, one, DETECTIONS) for n, one in enumerate(found)]
    for position, one in enumerate(results):
        if not _number(one.get("score")):
            raise ModelError(f"{detections}: entry {position} has no number for its score", f"it must be {DETECTIONS}")

    try:
        return coco_ap({**truth, "annotations": numbered}, results)
    except MetricError as error:
        raise ModelError(f"{detections}: {error}", f"take ids from {annotations}") from error


def _box(file: Path, position: int, one: Any, form: str) -> Mapping[str, Any]:
    if not isinstance(one, dict) or not {"image_id", "category_id", "bbox"} <= one.keys():
        raise ModelError(f"{file}: entry {position} lacks image_id, category_id or bbox", f"it must be {form}")
    box = one["bbox"]
    if not isinstance(box, Sequence) or len(box) != 4 or not all(map(_number, box)) or min(box[2:]) < 0:
        raise ModelError(f"{file}: entry {position} has the bbox {str(box)[:80]}", "write x, y, width, height")
    return one


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _read(file: Path, form: str) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}", f"name {form}") from error
    except ValueError as error:
        raise ModelError(f"{file} is not JSON: {error}", f"it must be {form}") from error
