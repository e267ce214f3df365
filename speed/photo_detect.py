"""What ``photo-detect`` finds: ``python -m speed.photo_detect --data DATA --data-dir MODELS --set coco_mini_cc``.

AP of NanoDet alone, of the labels as they are served, and of labels whose own class of the detector is hidden; AUROC of
presence; and, where a set has captions, how often the best box of a phrase points at what it names. Nothing here was
chosen on the splits that are named by default. A line of JSON a set.
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
from PIL import Image

from services.detection.answers import GroundRequest
from services.detection.boxes import candidates, nms
from services.detection.photo import REGIONS, PhotoDetector
from services.detection.protocol import Vocabulary
from services.detection.service import Detecting
from services.encoding.class_rows import ClassRows
from services.media.image import Picture
from services.metrics.detection import coco_ap
from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import ModelHandle, Options
from services.settings import Settings
from services.stages import Stages
from speed.detection_sets import document, pictures_of

LEAST, OVERLAP, MOST = 1e-4, 0.6, 100
NEEDED = ("nanodet-coco", "unicl-lite2-regions", "unicl-lite2-text", "photo-detect")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path, required=True, help="a data directory with photo-detect")
    parser.add_argument("--set", action="append", required=True)
    parser.add_argument("--split", action="append", default=None, help="test, or val of coco_mini_cc; several join")
    options = parser.parse_args()
    for name in options.set:
        splits = options.split or ["val" if name == "coco_mini_cc" else "test"]
        print(json.dumps(asyncio.run(measure(options.data / name, splits, options.data_dir))), flush=True)


async def measure(folder: Path, splits: Sequence[str], models: Path) -> dict[str, Any]:
    settings = Settings(data_dir=models, preload=NEEDED)
    backend = OnnxBackend(settings)
    await backend.start()
    try:
        with await backend.resolve("photo-detect") as model:
            detector = PhotoDetector(model, ClassRows(settings))
            found: dict[str, Any] = {"set": folder.name, "splits": list(splits)}
            found |= await _detection(detector, folder, splits)
            if (folder / f"captions_{splits[0]}.json").is_file():
                found |= await _pointing(Detecting(backend, settings), detector, model, folder, splits)
            return found
    finally:
        await backend.close()


async def _detection(detector: PhotoDetector, folder: Path, splits: Sequence[str]) -> dict[str, Any]:
    options, stages = Options(), Stages()
    truth = _joined(folder, splits)
    names = [category["name"].replace("-", " ") for category in truth["categories"]]
    numbers = [category["id"] for category in truth["categories"]]
    columns = detector.columns.of(names)
    files = pictures_of(folder)
    rows = await detector.label_rows(names, options, stages)
    classes = await detector.label_rows(detector.classes, options, stages)

    results: dict[str, list[dict[str, Any]]] = {"served": [], "hidden": [], "detector": []}
    present: dict[str, list[tuple[float, bool]]] = {"served": [], "hidden": []}
    for image in truth["images"]:
        picture = picture_of(files[Path(image["file_name"]).name])
        [found] = [one async for one in detector.detect([picture], [Vocabulary.of(names)], options, stages)]
        proposals = await detector.propose(picture, options, stages)
        seen = await detector.look(picture, proposals.boxes[:REGIONS], options, stages)
        hidden = detector.score(proposals, seen, rows, classes, columns)
        alone = np.where(columns >= 0, proposals.scores[:, columns], 0)
        scored = (("served", found.scores), ("hidden", hidden), ("detector", alone))
        here = {note["category_id"] for note in truth["annotations"] if note["image_id"] == image["id"]}
        for kind, scores in scored:
            results[kind] += _best(proposals.boxes[: len(scores)], scores, image["id"], numbers)
            if kind in present:
                best = scores.max(axis=0, initial=0).tolist()
                present[kind] += [(score, number in here) for score, number in zip(best, numbers, strict=True)]

    answer: dict[str, Any] = {"images": len(truth["images"]), "boxes": len(truth["annotations"])}
    for kind, detections in results.items():
        statistics = coco_ap(truth, detections).statistics
        answer[kind] = {name: round(statistics[name], 4) for name in ("AP50", "AP")}
    for kind, pairs in present.items():
        answer[f"presence AUROC, {kind}"] = round(auroc(pairs), 4)
    return answer


async def _pointing(
    service: Detecting, detector: PhotoDetector, model: ModelHandle, folder: Path, splits: Sequence[str]
) -> dict[str, Any]:
    """Of phrases that name a category which is there: how often the middle of the best box lies in one of its boxes."""
    hits = count = 0
    chance = 0.0
    truth = _joined(folder, splits)
    files = pictures_of(folder)
    known = [category["name"] for category in truth["categories"]]
    for split in splits:
        captions = json.loads((folder / f"captions_{split}.json").read_text("utf-8"))
        names = {image["id"]: image for image in captions["images"]}
        for note in captions["annotations"]:
            image = names[note["image_id"]]
            picture = picture_of(files[Path(image["file_name"]).name])
            answer = await service.ground(model, GroundRequest([picture], [note["caption"]]), Options(), Stages())
            for phrase in answer.results[0].phrases:
                column = int(detector.columns.of([phrase.text])[0])
                if column < 0 or detector.classes[column] not in known:
                    continue
                number = truth["categories"][known.index(detector.classes[column])]["id"]
                own = [
                    one["bbox"]
                    for one in truth["annotations"]
                    if one["image_id"] == note["image_id"] and one["category_id"] == number
                ]
                if not own:
                    continue
                count += 1
                chance += _covered(own, picture)
                hits += bool(phrase.boxes) and _inside(phrase.boxes[0].box, own)
    share = hits / count if count else float("nan")
    return {"pointing": round(share, 4), "phrases": count, "pointing by chance": round(chance / max(1, count), 4)}


def _inside(box: Sequence[float], own: Sequence[Sequence[float]]) -> bool:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return any(left <= x <= left + width and top <= y <= top + height for left, top, width, height in own)


def _covered(own: Sequence[Sequence[float]], picture: Picture) -> float:
    """The share of the picture that any of the boxes covers: what a point by chance would hit."""
    mask = np.zeros((picture.height, picture.width), bool)
    for left, top, width, height in own:
        mask[int(top) : int(top + height) + 1, int(left) : int(left + width) + 1] = True
    return float(mask.mean())


def _joined(folder: Path, splits: Sequence[str]) -> dict[str, Any]:
    """The documents of several splits as one, annotations numbered anew."""
    documents = [document(folder, split) for split in splits]
    notes = [note for one in documents for note in one["annotations"]]
    numbered = [
        {"iscrowd": 0, "area": note["bbox"][2] * note["bbox"][3], **note, "id": number}
        for number, note in enumerate(notes, 1)
    ]
    images = [image for one in documents for image in one["images"]]
    return {"images": images, "annotations": numbered, "categories": documents[0]["categories"]}


def picture_of(file: Path) -> Picture:
    with Image.open(file) as opened:
        image = opened.convert("RGB")
    return Picture(image, image.width, image.height, "JPEG")


def _best(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], image: int, numbers: Sequence[int]
) -> list[dict[str, Any]]:
    places, labels = candidates(scores, LEAST)
    kept = nms(boxes[places], scores[places, labels], labels, OVERLAP, most=MOST)
    found = []
    for place, label in zip(places[kept].tolist(), labels[kept].tolist(), strict=True):
        left, top, right, bottom = boxes[place].tolist()
        box = [left, top, right - left, bottom - top]
        score = float(scores[place, label])
        found.append({"image_id": image, "category_id": numbers[label], "bbox": box, "score": score})
    return found


def auroc(pairs: Sequence[tuple[float, bool]]) -> float:
    """How often what is there scores above what is not; ``nan`` where one of them is missing."""
    scores, there = np.array([score for score, _ in pairs]), np.array([own for _, own in pairs], bool)
    if there.all() or not there.any():
        return float("nan")
    from scipy.stats import rankdata

    ranks, count = rankdata(scores)[there], int(there.sum())
    return float((ranks.sum() - count * (count + 1) / 2) / (count * (len(there) - count)))


if __name__ == "__main__":
    main()
