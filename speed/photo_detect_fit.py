"""Fits the card of ``photo-detect``: ``python -m speed.photo_detect_fit --data DATA --data-dir MODELS``.

A logistic regression tells boxes that show a label from those that do not, on photos that no figure is reported of: 26
of COCO, with each name's own class of the detector hidden in turn, and the training splits of three sets, whose labels
are asked for beside three names of things that are not there. Presence is Platt's scaling of the best box.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.detection.photo import REGIONS, PhotoDetector
from services.encoding.class_rows import ClassRows
from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import Options
from services.settings import Settings
from services.stages import Stages
from speed.detection_sets import document, pictures_of
from speed.photo_detect import NEEDED, picture_of

SETS = {"coco_mini_cc": 2.0, "raccoon": 1.0, "fork_scissors": 1.0, "aquarium": 1.0}
"""Training splits, and what each counts: boxes that show their label weigh alike in every set."""
ABSENT = (
    "violin", "tiger", "pineapple", "helicopter", "castle", "snake", "tractor", "candle", "mushroom", "lighthouse",
    "piano", "spider",
)  # fmt: skip
HELD, NEAR = 0.5, 0.3
"""A box that overlaps an object by more than the first shows it; between the two it says nothing."""

Array = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path, required=True, help="a data directory with photo-detect")
    parser.add_argument("--photos", type=int, default=None, help="of each set at most; all when absent")
    options = parser.parse_args()
    asyncio.run(fit(options.data, options.data_dir, options.photos))


async def fit(data: Path, models: Path, photos: int | None) -> None:
    from sklearn.linear_model import LogisticRegression

    settings = Settings(data_dir=models, preload=NEEDED)
    backend = OnnxBackend(settings)
    await backend.start()
    try:
        with await backend.resolve("photo-detect") as model:
            detector = PhotoDetector(model, ClassRows(settings))
            collected = [await _collect(detector, data / name, photos) for name in SETS]
    finally:
        await backend.close()

    tables, shown, counts, bests = [], [], [], []
    for share, photos_of in zip(SETS.values(), collected, strict=True):
        table, truth, count = (np.concatenate([part[place] for part in photos_of]) for place in range(3))
        tables.append(table)
        shown.append(truth)
        counts.append(count * share * 1000 / max(1.0, float(count[truth].sum())))
        bests.append(photos_of)
    model_of = LogisticRegression(max_iter=400).fit(
        np.concatenate(tables), np.concatenate(shown), sample_weight=np.concatenate(counts)
    )
    weights, intercept = model_of.coef_[0], float(model_of.intercept_[0])

    best: list[float] = []
    there: list[bool] = []
    trust: list[float] = []
    for photos_of in bests:
        own = [(table @ weights + intercept, labels, truth) for table, truth, _, labels in photos_of]
        pairs = [
            (float(logits[labels == label].max()), bool(truth[labels == label].any()))
            for logits, labels, truth in own
            for label in np.unique(labels)
        ]
        best += [logit for logit, _ in pairs]
        there += [present for _, present in pairs]
        trust += [1 / len(pairs)] * len(pairs)
    presence = LogisticRegression(max_iter=400).fit(
        np.array(best)[:, None], there, sample_weight=np.array(trust) * len(trust) / len(SETS)
    )
    print(json.dumps({"weights": [round(float(weight), 3) for weight in weights], "intercept": round(intercept, 3)}))
    print(json.dumps({"slope": round(presence.coef_[0, 0], 2), "offset": round(float(presence.intercept_[0]), 2)}))


async def _collect(detector: PhotoDetector, folder: Path, photos: int | None) -> list[tuple[Any, ...]]:
    """Of each photo: features of boxes and labels ``(M, 8)``, what shows its label, weights, the labels' numbers."""
    options, stages = Options(), Stages()
    random = np.random.RandomState(0)
    truth, files = document(folder, "train"), pictures_of(folder)
    own = [category["name"].replace("-", " ") for category in truth["categories"]]
    numbers = [category["id"] for category in truth["categories"]]
    names = await detector.label_rows(detector.classes, options, stages)
    found = []
    for image in truth["images"][:photos]:
        absent = [] if len(own) == len(detector.classes) else random.choice(ABSENT, 3, replace=False).tolist()
        labels = [*own, *absent]
        rows = await detector.label_rows(labels, options, stages)
        picture = picture_of(files[Path(image["file_name"]).name])
        proposals = await detector.propose(picture, options, stages)
        seen = await detector.look(picture, proposals.boxes[:REGIONS], options, stages)
        table = detector.table(proposals, seen, rows, names, detector.columns.of(labels))
        here = [note for note in truth["annotations"] if note["image_id"] == image["id"]]
        boxes = [[note["bbox"] for note in here if note["category_id"] == number] for number in numbers]
        boxes += [[] for _ in absent]
        overlap = np.stack([_overlap(proposals.boxes[: len(table)], one) for one in boxes], axis=1)
        said = (overlap >= HELD) | (overlap <= NEAR)
        places = np.broadcast_to(np.arange(len(labels)), overlap.shape)
        found.append((table[said], overlap[said] >= HELD, np.ones(int(said.sum())), places[said]))
    return found


def _overlap(boxes: Array, objects: Sequence[Sequence[float]]) -> Array:
    """The best overlap ``(N,)`` with any of ``objects``, which are left, top, width and height."""
    best = np.zeros(len(boxes), np.float32)
    for left, top, width, height in objects:
        low = np.maximum(boxes[:, :2], [left, top])
        high = np.minimum(boxes[:, 2:], [left + width, top + height])
        common = (high - low).clip(0).prod(axis=1)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + width * height
        best = np.maximum(best, common / (areas - common))
    return best


if __name__ == "__main__":
    main()
