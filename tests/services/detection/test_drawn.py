"""The detectors of drawings as they are served, on a scene of drawings that lie in the repository."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.detection.drawn import cut
from services.detection.kinds import open_kind
from services.detection.protocol import Caption, Example, Found, GroundsCaptions, OpenVocabulary, Vocabulary
from services.encoding.class_rows import ClassRows
from services.media.image import Picture
from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import Options
from services.settings import Settings
from services.stages import Stages

pytestmark = pytest.mark.weights

DRAWINGS = Path(__file__).parents[3] / "examples" / "data" / "drawings"
SIDE = 320
PLACES = {"owl": (20, 30), "police-car": (200, 40), "sailboat": (110, 200)}
LARGE = 96


@pytest.fixture(scope="module")
def scene() -> Picture:
    canvas = Image.new("RGB", (SIDE, SIDE), (200, 220, 235))
    for name, place in PLACES.items():
        drawing = Image.open(DRAWINGS / f"{name}.png").convert("RGBA").resize((LARGE, LARGE))
        canvas.paste(drawing, place, drawing)
    return Picture(canvas, SIDE, SIDE, "PNG")


Ask = Callable[[OpenVocabulary], Coroutine[None, None, list[Found]]]


@pytest.fixture(scope="module", params=["glip-pocket", "regionclip-pocket"])
def ask(request: pytest.FixtureRequest, default_models: Path) -> Iterator[Callable[[Ask], list[Found]]]:
    settings = Settings(data_dir=default_models.parent, preload=(request.param,))
    with asyncio.Runner() as runner:
        backend = runner.run(_started(settings))
        model = runner.run(backend.resolve(request.param))
        with model:
            kind = open_kind(model, ClassRows(settings))
            yield lambda question: runner.run(question(kind))
        runner.run(backend.close())


async def _started(settings: Settings) -> OnnxBackend:
    backend = OnnxBackend(settings)
    await backend.start()
    return backend


async def _all(finding: AsyncGenerator[Found, None]) -> list[Found]:
    async with aclosing(finding) as found:
        return [one async for one in found]


def _detect(*pictures: Picture, vocabulary: Vocabulary) -> Ask:
    async def question(kind: OpenVocabulary) -> list[Found]:
        return await _all(kind.detect(pictures, [vocabulary] * len(pictures), Options(), Stages()))

    return question


def _overlap(box: np.ndarray, name: str) -> float:
    left, top = PLACES[name]
    wide = min(box[2], left + LARGE) - max(box[0], left)
    high = min(box[3], top + LARGE) - max(box[1], top)
    common = max(wide, 0) * max(high, 0)
    return float(common / ((box[2] - box[0]) * (box[3] - box[1]) + LARGE**2 - common))


def test_things_are_found_by_name_where_they_are(ask: Callable[[Ask], list[Found]], scene: Picture) -> None:
    labels = ("owl", "police car", "sailboat", "banana")
    (found,) = ask(_detect(scene, vocabulary=Vocabulary.of(labels)))
    assert found.boxes.dtype == found.scores.dtype == np.float32 and found.scores.shape == (len(found.boxes), 4)
    best = found.boxes[found.scores.argmax(axis=0)]
    for place, name in enumerate(PLACES):
        assert _overlap(best[place], name) > 0.5, name
    assert found.presence[:3].min() > 0.5 > found.presence[3]


def test_a_blank_picture_has_no_boxes_and_nothing_in_it(ask: Callable[[Ask], list[Found]]) -> None:
    plain = [Image.new("RGB", (200, 120), colour) for colour in ("white", "black", (30, 90, 160))]
    pictures = [Picture(image, image.width, image.height, "PNG") for image in plain]
    for found in ask(_detect(*pictures, vocabulary=Vocabulary.of(["owl", "police car"]))):
        assert found.scores.max(initial=0) < 0.2 and found.presence.max() < 0.2


def test_a_negative_label_takes_what_it_fits_better(ask: Callable[[Ask], list[Found]], scene: Picture) -> None:
    (found,) = ask(_detect(scene, vocabulary=Vocabulary(("bird",), 1, negative_labels=("owl",))))
    owl = [place for place, box in enumerate(found.boxes) if _overlap(box, "owl") > 0.5]
    assert owl and found.scores.shape[1] == 1 and (found.scores[owl] == 0).all()


def test_an_example_box_finds_what_looks_like_it(ask: Callable[[Ask], list[Found]], scene: Picture) -> None:
    left, top = PLACES["sailboat"]
    shown = Example(0, scene, (left, top, left + LARGE, top + LARGE))
    (found,) = ask(_detect(scene, vocabulary=Vocabulary(("my thing",), 0, examples=(shown,))))
    assert _overlap(found.boxes[found.scores[:, 0].argmax()], "sailboat") > 0.5


def test_many_labels_are_read_in_parts(ask: Callable[[Ask], list[Found]], scene: Picture) -> None:
    labels = [f"{colour} thing {number}" for number in range(9) for colour in ("red", "blue")] + ["owl"]
    (found,) = ask(_detect(scene, vocabulary=Vocabulary.of(labels)))
    assert found.scores.shape[1] == 19 and np.isfinite(found.scores).all()
    assert _overlap(found.boxes[found.scores[:, 18].argmax()], "owl") > 0.5


def test_a_relation_in_a_caption_chooses_between_two_of_a_kind(
    ask: Callable[[Ask], list[Found]], scene: Picture
) -> None:
    image = scene.image.copy()
    owl = Image.open(DRAWINGS / "owl.png").convert("RGBA").resize((LARGE, LARGE))
    image.paste(owl, (215, 205), owl)
    two = Picture(image, SIDE, SIDE, "PNG")

    async def question(kind: OpenVocabulary) -> list[Found]:
        if not isinstance(kind, GroundsCaptions):
            return []
        captions = [Caption(f"the owl {side} of the sailboat", ((0, 7), (17, 29))) for side in ("left ", "right")]
        return await _all(kind.ground([two, two], captions, Options(), Stages()))

    found = ask(question)
    if found:
        centres = [(one.boxes[one.scores[:, 0].argmax()][[0, 2]]).mean() for one in found]
        assert centres[0] < SIDE / 2 < centres[1]


def test_what_is_cut_out_stays_inside_the_picture() -> None:
    picture = Picture(Image.new("RGB", (40, 30)), 40, 30, "PNG")
    assert cut(picture, (0, 0, 40, 30)).image.size == (40, 30)
    tiny = cut(picture, (39.6, 29.6, 40, 30))
    assert tiny.image.size == (tiny.width, tiny.height) and min(tiny.image.size) >= 1
