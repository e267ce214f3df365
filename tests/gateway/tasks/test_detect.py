"""Boxes of labels, of examples and of a closed set: known answers, through every way in, and clear refusals."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from gateway.app import create_app
from services.detection import kinds
from services.settings import Settings
from tests.support import tiny_detectors
from tests.support.asgi import client
from tests.support.tiny_detectors import png, quarters

DETECT = "/v1/detect"
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def text(image: Image.Image) -> str:
    return base64.b64encode(png(image)).decode()


CORNERS = text(quarters(RED, GREEN, BLUE, "black", size=(100, 60)))


@pytest.fixture
def app(settings: Settings, repository: Path, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    tiny_detectors.add_closed(repository)
    tiny_detectors.add_open(repository)
    monkeypatch.setitem(kinds.KINDS, "quarters", tiny_detectors.KIND)
    return create_app(settings.model_copy(update={"default_detector": "tiny-open"}))


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client(app) as http:
        yield http


async def found(http: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await http.post(DETECT, json=body)
    assert answer.status_code == 200, answer.text
    read: dict[str, Any] = answer.json()
    return read


async def test_labels_are_found_where_they_are_and_their_presence_told(http: httpx.AsyncClient) -> None:
    answer = await http.post(DETECT, json={"image": CORNERS, "labels": ["a green thing", "a white dove"]})
    body = answer.json()
    assert (body["object"], body["model"], body["version"]) == ("detection", "tiny-open", "1")
    (result,) = body["results"]
    assert (result["index"], result["width"], result["height"], result["rendered"]) == (0, 100, 60, None)
    assert result["detections"] == [{"label": "a green thing", "score": 1.0, "box": [50, 0, 100, 30]}]
    assert [entry["label"] for entry in result["presence"]] == ["a green thing", "a white dove"]
    assert result["presence"][0]["score"] > 0.99 > 0.01 > result["presence"][1]["score"]
    assert body["usage"] == {"labels": 2, "prompt_tokens": 3, "chunks": 2, "proposals": 4, "boxes": 1}
    assert 'chunks;desc="2"' in answer.headers["server-timing"]
    metrics = (await http.get("/metrics")).text
    assert 'sightline_requests_total{code="200",model="tiny-open",task="detect"} 1.0' in metrics
    assert 'sightline_task_items_total{item="proposals",model="tiny-open"} 4.0' in metrics


async def test_every_image_may_have_labels_of_its_own(http: httpx.AsyncClient) -> None:
    body = await found(http, images=[CORNERS, CORNERS], labels_per_image=[["red"], ["blue", "red"]])
    labels = [[one["label"] for one in result["detections"]] for result in body["results"]]
    assert labels == [["red"], ["red", "blue"]]


async def test_a_negative_label_takes_its_boxes(http: httpx.AsyncClient) -> None:
    image = text(quarters((200, 0, 0), (150, 200, 0), "black", "black"))
    both = await found(http, image=image, labels=["red"])
    assert [one["box"][:2] for one in both["results"][0]["detections"]] == [[0, 0], [32, 0]]
    kept = await found(http, image=image, labels=["red"], negative_labels=["green"])
    assert [one["box"][:2] for one in kept["results"][0]["detections"]] == [[0, 0]]


async def test_an_example_box_finds_more_of_what_it_shows(http: httpx.AsyncClient) -> None:
    asked = text(quarters(BLUE, "black", RED, BLUE, size=(80, 80)))
    own = await found(http, image=asked, examples=[{"label": "my part", "box": [0, 0, 40, 40]}])
    assert [one["box"] for one in own["results"][0]["detections"]] == [[0, 0, 40, 40], [40, 40, 80, 80]]
    other = {"label": "my part", "image": CORNERS, "box": [0, 0, 50, 30]}
    shown = await found(http, images=[asked, asked], labels=["blue"], examples=[other])
    assert [one["label"] for one in shown["results"][1]["detections"]] == ["blue", "my part", "blue"]


async def test_a_closed_set_answers_its_own_labels_and_only_those(http: httpx.AsyncClient) -> None:
    body = await found(http, model="tiny-closed", image=CORNERS)
    detections = body["results"][0]["detections"]
    assert {(one["label"], round(one["score"], 1)) for one in detections} == {
        ("red", 0.6),
        ("green", 0.6),
        ("blue", 0.6),
    }
    assert len(body["results"][0]["presence"]) == 3
    some = await found(http, model="tiny-closed", images=[CORNERS, CORNERS], labels=["blue"])
    assert [one["label"] for one in some["results"][1]["detections"]] == ["blue"]
    unknown = await http.post(DETECT, json={"model": "tiny-closed", "image": CORNERS, "labels": ["red", "zebra"]})
    assert (unknown.status_code, unknown.json()["pointer"]) == (422, "/labels/1")
    against = {"model": "tiny-closed", "image": CORNERS, "labels": ["red"], "negative_labels": ["zebra"]}
    assert (await http.post(DETECT, json=against)).json()["pointer"] == "/negative_labels/0"


async def test_boxes_lie_in_the_picture_as_displayed(http: httpx.AsyncClient) -> None:
    """Letterboxed pictures come back to their own pixels, cut at their edges."""
    image = text(quarters(RED, RED, RED, RED, size=(200, 100)))
    body = await found(http, model="tiny-closed", image=image, threshold=0.4)
    assert sorted(one["box"] for one in body["results"][0]["detections"]) == [
        [0, 0, 100, 50],
        [0, 50, 100, 100],
        [100, 0, 200, 50],
        [100, 50, 200, 100],
    ]


async def test_limits_leave_boxes_out(http: httpx.AsyncClient) -> None:
    image = text(quarters((255, 0, 0), (230, 0, 0), (200, 0, 0), (100, 0, 0)))
    scores = [one["score"] for one in (await found(http, image=image, labels=["red"]))["results"][0]["detections"]]
    assert scores == pytest.approx([1, 0.902, 0.784], abs=1e-3)
    fewer = await found(http, image=image, labels=["red"], max_detections=2, threshold=0.1)
    assert len(fewer["results"][0]["detections"]) == 2
    every = await found(http, image=image, labels=["red"], threshold=0)
    assert len(every["results"][0]["detections"]) == 4


@pytest.mark.parametrize(("form", "kind"), [("PNG", "png"), ("JPEG", "jpeg")])
async def test_boxes_are_drawn_into_a_copy(http: httpx.AsyncClient, form: str, kind: str) -> None:
    sink = io.BytesIO()
    quarters(*["white"] * 4, size=(300, 200)).save(sink, form, quality=95)
    image = base64.b64encode(sink.getvalue()).decode()
    body = await found(http, image=image, labels=["red"], threshold=0.9, render=True)
    head, _, data = body["results"][0]["rendered"].partition(",")
    assert head == f"data:image/{kind};base64"
    drawn = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    assert drawn.size == (300, 200)
    before = np.asarray(Image.open(io.BytesIO(sink.getvalue())).convert("RGB"), np.int64)
    changed = np.abs(np.asarray(drawn, np.int64) - before).max(axis=2) > 60
    boxes = [one["box"] for one in body["results"][0]["detections"]]
    assert len(boxes) == 4
    for left, top, right, bottom in boxes:
        assert changed[int(top) : int(bottom), int(left)].mean() > 0.9  # its left edge
        assert changed[int(top) : int(bottom), int(left) : int(right)].mean() < 0.6  # and not all of it


async def test_ten_thousand_labels_are_looked_for_and_told(http: httpx.AsyncClient) -> None:
    labels = [f"thing {number}" for number in range(9_999)] + ["red"]
    (result,) = (await found(http, image=CORNERS, labels=labels))["results"]
    assert [one["label"] for one in result["detections"]] == ["red"]
    assert len(result["presence"]) == 10_000


async def test_files_and_query_parameters_do_as_well(http: httpx.AsyncClient) -> None:
    data = base64.b64decode(CORNERS)
    raw = await http.post(
        f"{DETECT}?labels=red,blue&threshold=0.6", content=data, headers={"content-type": "image/png"}
    )
    assert [one["label"] for one in raw.json()["results"][0]["detections"]] == ["red", "blue"]
    fields = {"examples": [{"label": "it", "box": [0, 0, 50, 30]}]}
    form = await http.post(
        DETECT, files={"image": ("a.png", data, "image/png"), "request": (None, json.dumps(fields), "application/json")}
    )
    assert [one["label"] for one in form.json()["results"][0]["detections"]] == ["it"]


WRONG: tuple[tuple[dict[str, Any], str, str | None], ...] = (
    ({}, "/labels", "labels-missing"),
    ({"labels": []}, "/labels", None),
    ({"labels": [str(number) for number in range(10_001)]}, "/labels", None),
    ({"labels": ["a", " "]}, "/labels/1", None),
    ({"labels": ["a", "a "]}, "/labels/1", "label-duplicate"),
    ({"labels": ["a"], "label_set": "imagenet-1k"}, "/label_set", "field-conflict"),
    ({"label_set": "no-such"}, "/label_set", "label-set-unknown"),
    ({"labels_per_image": [["a"], ["b"]]}, "/labels_per_image", "labels-per-image-count"),
    ({"labels_per_image": [["a", "a"]]}, "/labels_per_image/0/1", "label-duplicate"),
    ({"labels": ["a"], "negative_labels": ["b", "a"]}, "/negative_labels/1", "label-contradictory"),
    ({"labels": ["a"], "negative_labels": ["b", "b"]}, "/negative_labels/1", "label-duplicate"),
    ({"labels": ["a"], "threshold": 1.5}, "/threshold", None),
    ({"labels": ["a"], "nms_iou": 0}, "/nms_iou", None),
    ({"labels": ["a"], "max_detections": 0}, "/max_detections", None),
    ({"examples": [{"label": "a", "box": [0, 0, 0, 10]}]}, "/examples/0/box", "example-box-empty"),
    ({"examples": [{"label": "a", "box": [20, 0, 10, 10]}]}, "/examples/0/box", "example-box-empty"),
    ({"examples": [{"label": "a", "box": [90, 0, 101, 10]}]}, "/examples/0/box", "example-box-outside"),
    ({"examples": [{"label": "a", "box": [-1, 0, 10, 10]}]}, "/examples/0/box", "example-box-outside"),
    ({"examples": [{"label": "a", "box": [0, 0, 10]}]}, "/examples/0/box", None),
    ({"examples": [{"label": "a", "image": "bm8=", "box": [0, 0, 1, 1]}]}, "/examples/0/image", None),
    ({"model": "tiny-classifier", "labels": ["a"]}, "/model", "model-does-not-detect"),
    ({"model": "nowhere", "labels": ["a"]}, "/model", None),
)


async def test_what_is_wrong_is_said_of_its_place(http: httpx.AsyncClient) -> None:
    for fields, pointer, code in WRONG:
        answer = await http.post(DETECT, json={"image": CORNERS, **fields})
        problem = answer.json()
        assert answer.status_code in (404, 422) and problem["pointer"] == pointer, (fields, answer.text)
        assert code is None or problem["error"]["code"] == code, (fields, answer.text)
        assert problem.get("remedy") or problem["detail"], answer.text


async def test_a_threshold_that_is_no_number_is_refused(http: httpx.AsyncClient) -> None:
    body = json.dumps({"image": CORNERS, "labels": ["a"], "threshold": float("nan")})
    answer = await http.post(DETECT, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    query = await http.post(
        f"{DETECT}?labels=a&threshold=nan", content=base64.b64decode(CORNERS), headers={"content-type": "image/png"}
    )
    assert (query.status_code, query.json()["pointer"]) == (422, "/threshold")


async def test_an_example_of_several_images_says_which(http: httpx.AsyncClient) -> None:
    body = {"images": [CORNERS, CORNERS], "examples": [{"label": "a", "box": [0, 0, 5, 5]}]}
    answer = await http.post(DETECT, json=body)
    assert (answer.status_code, answer.json()["pointer"]) == (422, "/examples/0/image")


async def test_examples_are_refused_where_nothing_is_compared(http: httpx.AsyncClient) -> None:
    body = {"model": "tiny-closed", "image": CORNERS, "examples": [{"label": "a", "box": [0, 0, 5, 5]}]}
    answer = await http.post(DETECT, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "examples-unsupported")


async def test_a_blank_image_gets_no_boxes(http: httpx.AsyncClient) -> None:
    blank = text(Image.new("RGB", (90, 70)))
    for model, labels in (("tiny-open", ["red", "blue"]), ("tiny-closed", None)):
        (result,) = (await found(http, model=model, image=blank, labels=labels))["results"]
        assert result["detections"] == []
        assert max(entry["score"] for entry in result["presence"]) < 0.01
