"""Pictures are cut out and prepared as serving prepares them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from models.catalog.catalog import Catalog
from models.unicl.lite2.collect import describe_pictures
from models.unicl.lite2.pictures import MOST, crops, pictographs, pixels
from services.media.image import Picture
from services.media.preprocess import Preprocessor


@pytest.mark.parametrize("size", [(64, 64), (400, 300), (301, 517)])
def test_pixels_are_those_of_serving(size: tuple[int, int]) -> None:
    card = Catalog.read().entry("efficientnet-lite2").card
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(noise)
    assert card.image is not None
    served = Preprocessor(card.image).batch([Picture(image, *size, "PNG")])[0]
    assert np.abs(pixels(image, card) - served).max() < 0.02


def test_crops_are_squares_around_large_enough_boxes(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    photo = np.zeros((100, 200, 3), np.uint8)
    photo[30:70, 80:120] = 255
    Image.fromarray(photo).save(tmp_path / "train" / "a.png")
    boxes = [[80, 30, 40, 40], [0, 0, 10, 90], *[[150, 50, 30, 30]] * (MOST + 5)]
    notes = {
        "categories": [{"id": 1, "name": "white-square"}, {"id": 2, "name": "dark"}],
        "images": [{"id": 7, "file_name": "a.png"}],
        "annotations": [
            {"category_id": 1 if place < 2 else 2, "bbox": box, "image_id": 7} for place, box in enumerate(boxes)
        ],
    }
    (tmp_path / "annotations_train.json").write_text(json.dumps(notes))
    shown = list(crops(tmp_path))
    (square,) = [picture for name, picture in shown if name == "white square"]
    assert square.size == (48, 48) and np.asarray(square)[4:44, 4:44].min() == 255
    assert sum(name == "dark" for name, _ in shown) == MOST


def test_drawings_lie_on_white_and_on_photos(tmp_path: Path) -> None:
    images = np.zeros((4, 8, 8, 4), np.uint8)
    images[:, 2:4, 2:4] = 255
    save_file(
        {
            "images": images,
            "style": np.array([0, 1, 1, 0], np.int32),
            "concept": np.array([0, 0, 1, 1], np.int32),
            "photos": np.full((2, 3, 140, 140), 90, np.uint8),
        },
        tmp_path / "pictographs.safetensors",
    )
    meta = {"styles": ["noto", "fluent-3d"], "concepts": [{"name": "star"}, {"name": "moon"}]}
    (tmp_path / "pictographs.json").write_text(json.dumps(meta))
    shown = list(pictographs(tmp_path, "fluent-3d"))
    assert [name for name, _ in shown] == ["star", "moon"]
    assert [int(np.asarray(picture)[0, 0, 0]) for _, picture in shown] == [255, 90]
    concepts, rows, owners = describe_pictures(
        [shown, shown[:1]], lambda pictures: np.stack([np.asarray(p, np.float32).ravel()[:6] for p in pictures])
    )
    assert concepts == ["moon", "star"] and owners.tolist() == [1, 0, 1]
    assert np.abs(rows[:2].sum(axis=0)).max() < 1e-5  # less the mean of the source
