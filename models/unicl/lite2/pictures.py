"""The pictures that ``unicl-lite2`` is trained with, as square images with the name of what they show."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file

from models.catalog.card import Card
from models.repository.reading import MODEL, read_card

STYLES = ("fluent-3d", "noto")
"""Of the pictographs: shaded ones, which are nearest to photos, and flat ones."""
PHOTOS = ("aquarium", "raccoon", "fork_scissors")
"""Training splits of detection sets that no comparison of docs/models/unicl-lite2.md uses."""
MOST = 30
"""Crops of one kind of object."""
SMALLEST = 24
"""Pixels of a box's shorter side, below which it is not cut out."""
BATCH = 8

Shown = tuple[str, Image.Image]


def pictographs(folder: Path, style: str) -> Iterator[Shown]:
    """Every drawing of one style in a folder of ``sightline datasets build pictographs``.

    Every second one lies on a piece of a photo, the others on white, so that no background says what is shown.
    """
    arrays = load_file(folder / "pictographs.safetensors")
    meta: dict[str, Any] = json.loads((folder / "pictographs.json").read_text("utf-8"))
    random = np.random.RandomState(0)
    photos = arrays["photos"]  # (P, 3, H, W)
    number = meta["styles"].index(style)
    for count, row in enumerate(np.flatnonzero(arrays["style"] == number)):
        drawing = arrays["images"][row].astype(np.float32)  # (S, S, 4)
        side = len(drawing)
        back = np.full((side, side, 3), 255, np.float32)
        if count % 2:
            top, left = random.randint(0, photos.shape[2] - side, 2)
            piece = photos[random.randint(len(photos)), :, top : top + side, left : left + side]
            back = piece.transpose(1, 2, 0).astype(np.float32)

        alpha = drawing[..., 3:] / 255
        joined = drawing[..., :3] * alpha + back * (1 - alpha)
        name: str = meta["concepts"][int(arrays["concept"][row])]["name"]
        yield name, Image.fromarray(joined.clip(0, 255).astype(np.uint8))


def crops(folder: Path) -> Iterator[Shown]:
    """Squares around the objects of a set with ``annotations_train.json`` (COCO) and ``train/``."""
    notes: dict[str, Any] = json.loads((folder / "annotations_train.json").read_text("utf-8"))
    names = {category["id"]: category["name"] for category in notes["categories"]}
    files = {image["id"]: image["file_name"] for image in notes["images"]}
    taken: dict[str, int] = {}
    for index in np.random.RandomState(0).permutation(len(notes["annotations"])):
        note = notes["annotations"][index]
        name, (left, top, width, height) = names[note["category_id"]], note["bbox"]
        if min(width, height) < SMALLEST or taken.get(name, 0) == MOST:
            continue

        taken[name] = taken.get(name, 0) + 1
        half = 0.6 * max(width, height)
        x, y = left + width / 2, top + height / 2
        with Image.open(next((folder / "train").rglob(files[note["image_id"]]))) as opened:
            photo = opened.convert("RGB")

        box = (max(0, x - half), max(0, y - half), min(photo.width, x + half), min(photo.height, y + half))
        yield name.replace("-", " "), photo.crop((int(box[0]), int(box[1]), int(box[2]), int(box[3])))


class Features:
    """The image model of a version folder on ONNX Runtime, one thread: pictures to ``(N, F)``."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        self._card = read_card(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(folder / MODEL), options, providers=["CPUExecutionProvider"])

    def __call__(self, pictures: Sequence[Image.Image]) -> NDArray[np.float32]:
        assert self._card.image is not None and self._card.embedding is not None
        rows = []
        for begin in range(0, len(pictures), BATCH):
            batch = np.stack([pixels(picture, self._card) for picture in pictures[begin : begin + BATCH]])
            rows.append(self._session.run([self._card.embedding], {self._card.image.input: batch})[0])
        return np.asarray(np.concatenate(rows), np.float32)


def pixels(picture: Image.Image, card: Card) -> NDArray[np.float32]:
    """``(3, S, S)``: shorter side to the card's ``resize``, the centre cut out, normalised."""
    spec = card.square
    assert spec is not None and spec.resize is not None
    width, height = picture.size
    shorter = min(width, height)
    size = (spec.resize * width // shorter, spec.resize * height // shorter)
    resized = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - spec.size) / 2), round((size[1] - spec.size) / 2)
    square = np.asarray(resized.crop((left, top, left + spec.size, top + spec.size)), np.float32) / 255
    normalised = (square - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1), np.float32)
