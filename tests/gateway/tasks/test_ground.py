"""The phrases of a caption are found in the image, with their places in the caption as it was sent."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from gateway.app import create_app
from services.detection import kinds
from services.detection.protocol import Caption, Found
from services.media.image import Picture
from services.runtime.protocol import Options
from services.settings import Settings
from services.stages import Stages
from tests.support import tiny_detectors
from tests.support.asgi import client
from tests.support.tiny_detectors import Quarters, png, quarters

GROUND = "/v1/ground"
IMAGE = base64.b64encode(png(quarters((255, 0, 0), (0, 255, 0), (0, 0, 255), "black", size=(100, 60)))).decode()


class Reader(Quarters):
    """A kind that reads sentences: each phrase scores by how late in the caption it stands."""

    async def ground(
        self, pictures: Sequence[Picture], captions: Sequence[Caption], options: Options, stages: Stages
    ) -> AsyncGenerator[Found, None]:
        for caption in captions:
            scores = np.array([[begin / len(caption.text) for begin, _ in caption.spans]], np.float32)
            yield Found(np.array([[1, 2, 3, 4]], np.float32), scores, scores[0], proposals=1)


@pytest.fixture
def app(settings: Settings, repository: Path, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    tiny_detectors.add_closed(repository)
    tiny_detectors.add_open(repository)
    tiny_detectors.add_open(repository, "tiny-reader", kind="reader")
    monkeypatch.setitem(kinds.KINDS, "quarters", tiny_detectors.KIND)
    monkeypatch.setitem(kinds.KINDS, "reader", (__name__, "Reader", ()))
    return create_app(settings.model_copy(update={"default_detector": "tiny-open"}))


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client(app) as http:
        yield http


async def found(http: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await http.post(GROUND, json=body)
    assert answer.status_code == 200, answer.text
    read: dict[str, Any] = answer.json()
    return read


async def test_noun_phrases_are_found_with_their_places(http: httpx.AsyncClient) -> None:
    caption = "A red hat, a Blue hat \U0001f3a9 and A RED hat"
    body = await found(http, image=IMAGE, caption=caption)
    assert (body["object"], body["model"], body["usage"]["labels"]) == ("grounding", "tiny-open", 3)
    (result,) = body["results"]
    assert result["caption"] == caption and result["rendered"] is None
    assert [(phrase["text"], phrase["span"]) for phrase in result["phrases"]] == [
        ("A red hat", [0, 9]),
        ("a Blue hat", [11, 21]),
        ("A RED hat", [28, 37]),
    ]
    for phrase in result["phrases"]:
        begin, end = phrase["span"]
        assert caption[begin:end] == phrase["text"]
    assert [phrase["boxes"][0]["box"] for phrase in result["phrases"]] == [
        [0, 0, 50, 30],
        [0, 30, 50, 60],
        [0, 0, 50, 30],
    ]
    assert all(phrase["presence"] > 0.9 for phrase in result["phrases"])


async def test_what_is_not_there_has_no_box_and_no_presence(http: httpx.AsyncClient) -> None:
    body = await found(http, image=IMAGE, caption="a white dove on a red roof")
    dove, roof = body["results"][0]["phrases"]
    assert dove["boxes"] == [] and dove["presence"] < 0.1
    assert len(roof["boxes"]) == 1 and roof["presence"] > 0.9


async def test_every_image_may_have_its_own_caption(http: httpx.AsyncClient) -> None:
    body = await found(http, images=[IMAGE, IMAGE], captions=["the red car", "a cat and the blue car"], render=True)
    texts = [[phrase["text"] for phrase in result["phrases"]] for result in body["results"]]
    assert texts == [["the red car"], ["a cat", "the blue car"]]
    assert all(result["rendered"].startswith("data:image/png;base64,") for result in body["results"])
    both = await found(http, images=[IMAGE, IMAGE], caption="the red car")
    assert [result["caption"] for result in both["results"]] == ["the red car"] * 2


async def test_named_phrases_are_taken_where_they_stand(http: httpx.AsyncClient) -> None:
    caption = "A blue-red car, a RED car and a red carpet"
    body = await found(http, image=IMAGE, caption=caption, phrases=["red car", "red car", "A"])
    spans = [tuple(phrase["span"]) for phrase in body["results"][0]["phrases"]]
    assert [caption[begin:end] for begin, end in spans] == ["red car", "RED car", "A"]
    assert [begin for begin, _ in spans] == [7, 18, 0]


async def test_a_model_that_reads_sentences_gets_the_sentence(http: httpx.AsyncClient) -> None:
    body = await found(http, model="tiny-reader", image=IMAGE, caption="a cat, a cat", threshold=0)
    first, second = body["results"][0]["phrases"]
    assert (first["boxes"][0]["score"], second["boxes"][0]["score"]) == pytest.approx((0, 7 / 12))


async def test_what_is_wrong_is_said_of_its_place(http: httpx.AsyncClient) -> None:
    wrong: tuple[tuple[dict[str, Any], str, str | None], ...] = (
        ({}, "/caption", "caption-missing"),
        ({"caption": ""}, "/caption", None),
        ({"caption": " \n"}, "/caption", None),
        ({"captions": []}, "/captions", None),
        ({"captions": ["a cat", "a dog"]}, "/captions", "captions-count"),
        ({"captions": [" "]}, "/captions/0", None),
        ({"caption": "a cat", "captions": ["a cat"]}, "/captions", "field-conflict"),
        ({"caption": "running fast"}, "/caption", "caption-no-phrase"),
        ({"captions": ["?!"]}, "/captions/0", "caption-no-phrase"),
        ({"caption": "a cat", "phrases": []}, "/phrases", None),
        ({"caption": "a cat", "phrases": ["cat", "dog"]}, "/phrases/1", "phrase-not-in-caption"),
        ({"caption": "a cat", "phrases": ["cat", "cat"]}, "/phrases/1", "phrase-not-in-caption"),
        ({"caption": "concatenate", "phrases": ["cat"]}, "/phrases/0", "phrase-not-in-caption"),
        ({"caption": "x" * 9000}, "/caption", None),
        ({"caption": "a cat", "threshold": -0.1}, "/threshold", None),
        ({"caption": "a cat", "model": "tiny-closed"}, "/model", "model-does-not-ground"),
        ({"caption": "a cat", "model": "tiny-text"}, "/model", "model-does-not-detect"),
    )
    for fields, pointer, code in wrong:
        answer = await http.post(GROUND, json={"image": IMAGE, **fields})
        problem = answer.json()
        assert (answer.status_code, problem["pointer"]) == (422, pointer), (fields, answer.text)
        assert code is None or problem["error"]["code"] == code, (fields, answer.text)


async def test_a_blank_image_grounds_nothing(http: httpx.AsyncClient) -> None:
    blank = base64.b64encode(png(Image.new("RGB", (64, 64)))).decode()
    body = await found(http, image=blank, caption="a red hat")
    assert body["results"][0]["phrases"][0]["boxes"] == []


async def test_detect_and_ground_share_what_is_kept_of_a_model(app: FastAPI) -> None:
    services = {
        id(route.endpoint.__self__._service)
        for route in app.routes
        if getattr(route, "path", "") in ("/v1/detect", GROUND)
    }
    assert len(services) == 1
