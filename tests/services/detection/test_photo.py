"""Labels of one's own in photos: names of the detector by itself, others by their place, nothing in a blank one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

from models.catalog.catalog import Catalog
from services.detection.answers import DetectRequest, GroundRequest, LabelledExample, Limits
from services.detection.photo_scores import FEATURES, Regions, Weights, features, named, shown
from services.detection.service import Detecting
from services.encoding.meanings import Evidence
from services.media.image import Picture
from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import Options
from services.settings import Settings
from services.stages import Stages

CAT = Path(skimage.__file__).parent / "data" / "chelsea.png"
WEIGHTS = Weights.of(Catalog.read().entry("photo-detect").card.pipeline.parameters)  # type: ignore[union-attr]


def regions(*scores):
    return Regions(np.array(scores, np.float32), np.full(len(scores), 100, np.float32))


def evidence(cosines, nearest=0.4):
    found = np.array(cosines, np.float32)
    return Evidence(found, np.zeros(len(found), np.float32), np.full(len(found), nearest, np.float32))


def table(boxes, cosines, hidden=(-1,)):
    return features(boxes, evidence(cosines), np.eye(1, 2, dtype=np.float32), 25.0, slice(0, 1), np.array(hidden))


def test_a_surer_box_that_is_nearer_to_the_label_scores_higher() -> None:
    boxes = regions([0.1, 0.6], [0.1, 0.6], [0.1, 0.1])
    scores = named(table(boxes, [[0.5, 0.1], [0.1, 0.5], [0.5, 0.1]]), WEIGHTS)[:, 0]
    assert scores[0] > scores[1] and scores[0] > scores[2]
    assert ((scores > 0) & (scores < 1)).all()


def test_a_hidden_class_of_the_detector_is_not_used() -> None:
    boxes = regions([0.9, 0.2])
    plain, hidden = table(boxes, [[0.3, 0.2]]), table(boxes, [[0.3, 0.2]], hidden=(0,))
    place = FEATURES.index("objectness")
    assert plain[0, 0, place] == pytest.approx(np.log(0.901)) and hidden[0, 0, place] == pytest.approx(np.log(0.201))
    assert boxes.scores[0, 0] == np.float32(0.9)  # and it is whole again


def test_what_looks_like_the_example_scores_higher() -> None:
    boxes = regions([0.5], [0.5])
    likeness = shown(boxes, np.array([[0.9], [0.2]], np.float32), np.full(2, 0.4, np.float32), WEIGHTS)[:, 0]
    assert likeness[0] > 0.5 > likeness[1]


def test_weights_of_another_number_are_refused() -> None:
    with pytest.raises(ValueError, match="7 and 4, not 8 and 4"):
        Weights.of({"weights": [0.0] * 7, "intercept": 0, "scale": 25, "examples": [0.0] * 4})


def asked(models: Path, pictures, **request):
    async def go():
        settings = Settings(data_dir=models.parent, preload=("photo-detect",))
        backend = OnnxBackend(settings)
        await backend.start()
        try:
            with await backend.resolve("photo-detect") as model:
                service = Detecting(backend, settings)
                pick = [Picture(one, one.width, one.height, "PNG") for one in pictures]
                if "captions" in request:
                    return await service.ground(model, GroundRequest(pick, **request), Options(), Stages())
                return await service.detect(model, DetectRequest(pick, **request), Options(), Stages())
        finally:
            await backend.close()

    return asyncio.run(go()).results


@pytest.mark.weights
def test_a_cat_is_found_by_its_own_name_by_a_synonym_and_by_a_kind(default_models: Path) -> None:
    cat = Image.open(CAT).convert("RGB")
    blank = Image.new("RGB", (320, 240), "white")
    labels = ["cat", "sofa", "Egyptian cat", "school bus", "violin"]
    found, empty = asked(default_models, [cat, blank], labels=labels, negative_labels=["a dog"])
    best = {one.label: one for one in reversed(found.detections)}
    assert best["cat"].score > 0.5 and "sofa" not in best and "violin" not in best
    left, top, right, bottom = best["cat"].box
    assert (right - left) * (bottom - top) > 0.4 * cat.width * cat.height
    presence = {one.label: one.score for one in found.presence}
    assert presence["Egyptian cat"] > presence["school bus"] and presence["cat"] > 0.7
    assert empty.detections == [] and max(one.score for one in empty.presence) < 0.3


@pytest.mark.weights
def test_an_example_box_and_a_phrase_find_the_cat_as_well(default_models: Path) -> None:
    cat = Image.open(CAT).convert("RGB")
    [grounded] = asked(default_models, [cat], captions=["A tabby cat looks at the camera"])
    phrase = next(one for one in grounded.phrases if "cat" in one.text)
    assert phrase.boxes
    picture = Picture(cat, cat.width, cat.height, "PNG")
    example = LabelledExample("mine", (60.0, 20.0, 400.0, 290.0), picture)
    [shown_] = asked(
        default_models, [cat.transpose(Image.Transpose.FLIP_LEFT_RIGHT)], examples=[example], limits=Limits(0.3)
    )
    assert shown_.detections and shown_.detections[0].label == "mine"
