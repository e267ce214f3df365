"""Images in any of three ways give the same answer, with timings, ids and metrics."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image

from gateway.app import create_app
from models.catalog.card import Pipeline, TextPreprocess
from models.catalog.geometry import ImagePreprocess
from services.runtime.desired_state import DesiredStates
from services.settings import Settings
from tests.support import tiny_models
from tests.support.asgi import call, client

CLASSIFY = "/v1/classify"


def jpeg(size: tuple[int, int] = (40, 30), seed: int = 0) -> bytes:
    sink = io.BytesIO()
    gradient = Image.linear_gradient("L").resize(size).rotate(seed * 90)
    Image.merge("RGB", (gradient, gradient.transpose(Image.Transpose.FLIP_TOP_BOTTOM), gradient)).save(sink, "JPEG")
    return sink.getvalue()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture
def app(settings: Settings, repository: Path) -> FastAPI:
    return create_app(settings.model_copy(update={"default_classifier": "tiny-classifier"}))


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client(app) as http:
        yield http


async def test_one_image_is_classified_into_the_models_own_labels(http: httpx.AsyncClient) -> None:
    answer = await http.post(CLASSIFY, json={"image": text(jpeg()), "top_k": 3})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["object"], body["model"], body["version"]) == ("classification", "tiny-classifier", "1")
    (result,) = body["results"]
    assert (result["index"], result["width"], result["height"]) == (0, 40, 30)
    scores = [prediction["score"] for prediction in result["predictions"]]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)
    assert {prediction["label"] for prediction in result["predictions"]} <= set(tiny_models.LABELS)
    assert "explanation" not in result


@pytest.mark.parametrize("explain", [False, True])
async def test_the_model_is_looked_up_once_a_request(
    settings: Settings, repository: Path, monkeypatch: pytest.MonkeyPatch, explain: bool
) -> None:
    """Of a pipeline too, whose parts come with it: one look at what is wanted, which is one ``stat``."""
    model = tiny_models.looking()
    tower = tiny_models.text_encoder(dim=tiny_models.FEATURES)
    fields = {"task": "embed-image", "image": ImagePreprocess(size=64)}
    fields["roles"] = {"embedding": "features", "modulation": "modulation"}
    tiny_models.write(repository, tiny_models.card("seeing", model, **fields), {"model.onnx": model})
    words = tiny_models.card(
        "words", tower, task="embed-text", text=TextPreprocess(max_length=32), roles={"embedding": "embedding"}
    )
    tiny_models.write(repository, words, {"model.onnx": tower, "tokenizer.json": tiny_models.tokenizer()})
    pipeline = Pipeline(kind="dual-encoder", parts={"image": "seeing@1", "text": "words@1"})
    tiny_models.write(repository, tiny_models.card("pair", task="zero-shot-classify", pipeline=pipeline), {})
    looks = 0
    refresh = DesiredStates.refresh

    def counted(self: DesiredStates) -> bool:
        nonlocal looks
        looks += 1
        return refresh(self)

    async with client(create_app(settings)) as http:
        body = {"model": "pair", "image": text(jpeg()), "labels": ["red cat", "car"], "explain": explain}
        assert (await http.post(CLASSIFY, json=body)).status_code == 200
        monkeypatch.setattr(DesiredStates, "refresh", counted)
        for labels in (["red cat", "car"], ["old dog"]):
            looks = 0
            answer = await http.post(CLASSIFY, json=body | {"labels": labels})
            assert (answer.status_code, looks) == (200, 1), answer.text
        for embedded in ({"input": ["a cat"]}, {"image": text(jpeg())}):
            looks = 0
            answer = await http.post("/v1/embeddings", json={"model": "pair", **embedded})
            assert (answer.status_code, looks) == (200, 1), answer.text


async def test_json_form_and_raw_bodies_give_the_same_answer(http: httpx.AsyncClient) -> None:
    data, labels = jpeg(), ["cat", "dog", "fish"]
    fields = {"labels": labels, "top_k": 2, "multi_label": True}
    answers = [
        await http.post(CLASSIFY, json={"image": text(data), **fields}),
        await http.post(CLASSIFY, json={"image": "data:image/jpeg;base64," + text(data), **fields}),
        await http.post(CLASSIFY, json={"images": [text(data)], **fields}),
        await http.post(CLASSIFY, files=[("image", ("a.jpg", data)), ("request", (None, json.dumps(fields)))]),
        await http.post(
            CLASSIFY + "?labels=cat,dog,fish&top_k=2&multi_label=true",
            content=data,
            headers={"content-type": "image/jpeg"},
        ),
        await http.post(
            CLASSIFY + "?labels=cat&labels=dog&labels=fish&top_k=2&multi_label=1",
            content=data,
            headers={"content-type": "application/octet-stream"},
        ),
    ]
    assert [answer.status_code for answer in answers] == [200] * len(answers), [answer.text for answer in answers]
    assert all(answer.json() == answers[0].json() for answer in answers)


async def test_several_images_are_answered_in_order(http: httpx.AsyncClient) -> None:
    pictures = [jpeg((10 + index, 20), index) for index in range(9)]
    body = (await http.post(CLASSIFY, json={"images": [text(one) for one in pictures]})).json()
    assert [result["width"] for result in body["results"]] == [10 + index for index in range(9)]
    assert [result["index"] for result in body["results"]] == list(range(9))
    for one, result in zip(pictures, body["results"], strict=True):
        alone = (await http.post(CLASSIFY, content=one, headers={"content-type": "image/jpeg"})).json()["results"][0]
        assert alone["predictions"][0]["label"] == result["predictions"][0]["label"]
        assert alone["predictions"][0]["score"] == pytest.approx(result["predictions"][0]["score"], abs=1e-5)
    files = [("image", (f"{index}.jpg", one)) for index, one in enumerate(pictures)]
    assert len((await http.post(CLASSIFY, files=files)).json()["results"]) == 9


async def test_an_answer_names_its_timings_and_its_request(http: httpx.AsyncClient) -> None:
    answer = await http.post(CLASSIFY, json={"image": text(jpeg())}, headers={"X-Request-ID": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    timing = dict(re.findall(r"(\w+);dur=([\d.]+)", answer.headers["server-timing"]))
    assert timing.keys() == {"decode", "queue", "infer", "encode"}
    assert float(timing["decode"]) > 0 and float(timing["infer"]) > 0


async def test_answers_and_refusals_are_counted_by_model(http: httpx.AsyncClient) -> None:
    await http.post(CLASSIFY, json={"image": text(jpeg())})
    await http.post(CLASSIFY, json={"image": "!"})
    await http.post(CLASSIFY, json={"image": text(jpeg()), "model": "invented-1"})
    await http.post(CLASSIFY, json={"image": text(jpeg()), "model": "invented-2"})
    metrics = (await http.get("/metrics")).text
    for code, model, count in [("200", "tiny-classifier", 1), ("422", "tiny-classifier", 1), ("404", "none", 2)]:
        line = f'sightline_requests_total{{code="{code}",model="{model}",task="classify"}} {count}.0'
        assert line in metrics, line
    assert "invented" not in metrics
    assert 'sightline_stage_duration_seconds_count{model="tiny-classifier",stage="infer"} 1.0' in metrics
    assert 'sightline_batch_size_count{model="tiny-classifier"} 1.0' in metrics
    assert 'sightline_rejected_total{reason="bad_image"} 1.0' in metrics


async def test_a_version_can_be_asked_for(http: httpx.AsyncClient) -> None:
    assert (await http.post(CLASSIFY, json={"image": text(jpeg()), "version": "1"})).json()["version"] == "1"
    missing = await http.post(CLASSIFY, json={"image": text(jpeg()), "version": "7"})
    assert (missing.status_code, missing.json()["pointer"]) == (404, "/version")


@pytest.mark.parametrize(
    ("fields", "code", "pointer"),
    [
        ({}, "image-missing", "/image"),
        ({"image": "aGk=", "images": ["aGk="]}, "field-conflict", "/images"),
        ({"image": "aGk=", "labels": ["a"], "label_set": "coco-80"}, "field-conflict", "/label_set"),
        ({"image": "aGk=", "templates": ["a {}"], "template_set": "imagenet-81"}, "field-conflict", "/template_set"),
    ],
)
async def test_fields_that_say_the_same_are_not_sent_together(
    http: httpx.AsyncClient, fields: dict[str, object], code: str, pointer: str
) -> None:
    answer = await http.post(CLASSIFY, json=fields)
    assert (answer.status_code, answer.json()["error"]["code"], answer.json()["pointer"]) == (422, code, pointer)


async def test_an_answer_too_large_is_refused_before_any_work(http: httpx.AsyncClient) -> None:
    answer = await http.post(CLASSIFY, json={"images": [text(jpeg())] * 64, "top_k": 10_000})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "answer-too-large")


async def test_a_model_that_looks_shows_where(settings: Settings, repository: Path) -> None:
    model = tiny_models.looking()
    fields = {
        "task": "classify",
        "image": ImagePreprocess(size=32),
        "label_set": "labels.txt",
        "roles": {"logits": "logits", "modulation": "modulation"},
    }
    files = {"model.onnx": model, "labels.txt": "\n".join(tiny_models.LABELS).encode()}
    tiny_models.write(repository, tiny_models.card("tiny-looking", model, **fields), files)
    async with client(create_app(settings)) as http:
        query = {"model": "tiny-looking", "explain": "true"}
        answer = await http.post(CLASSIFY, params=query, content=jpeg(), headers={"content-type": "image/jpeg"})
        assert answer.status_code == 200, answer.text
        explanation = answer.json()["results"][0]["explanation"]
        assert explanation["method"] == "focal-modulation"
        kind, _, data = explanation["image"].partition(",")
        assert kind == "data:image/png;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (256, 192)
        body = {"images": [text(jpeg())] * 17, "model": "tiny-looking", "explain": True}
        many = await http.post(CLASSIFY, json=body)
        assert (many.status_code, many.json()["pointer"]) == (422, "/explain")
        assert many.json()["error"]["code"] == "answer-too-large"
        plain = await http.post(CLASSIFY, json={"image": text(jpeg()), "model": "tiny-classifier", "explain": True})
        assert (plain.status_code, plain.json()["error"]["code"]) == (422, "explain-unsupported")
        assert "tiny-looking" in plain.json()["remedy"]


async def test_more_than_the_limit_in_flight_is_told_to_come_again(settings: Settings, repository: Path) -> None:
    settings = settings.model_copy(update={"default_classifier": "tiny-classifier", "max_inflight": 1})
    app = create_app(settings)
    async with client(app) as http:
        stalled = asyncio.create_task(
            call(app, path=CLASSIFY, headers={"content-type": "image/jpeg", "content-length": "9"}, chunks=[b"x", 1.0])
        )
        await asyncio.sleep(0.05)
        answer = await http.post(CLASSIFY, json={"image": text(jpeg())})
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert answer.json()["error"]["code"] == "overloaded"
        assert (await http.get("/healthz")).status_code == 200
        stalled.cancel()
        await asyncio.gather(stalled, return_exceptions=True)
        assert (await http.post(CLASSIFY, json={"image": text(jpeg())})).status_code == 200


async def test_a_client_that_leaves_takes_its_work_out_of_the_queue(settings: Settings) -> None:
    model = tiny_models.classifier(size=96, layers=60)
    spec = tiny_models.ImagePreprocess(size=96)
    fields = {"task": "classify", "image": spec, "label_set": "labels.txt", "roles": {"logits": "logits"}}
    files = {"model.onnx": model, "labels.txt": "\n".join(tiny_models.LABELS).encode()}
    card = tiny_models.card("slow", model, batching=tiny_models.Batching(max_batch_size=1), **fields)
    tiny_models.write(settings.models_dir, card, files)
    app = create_app(settings.model_copy(update={"default_classifier": "slow"}))
    data = jpeg()
    headers = {"content-type": "image/jpeg", "content-length": str(len(data))}
    async with client(app):
        staying = [call(app, path=CLASSIFY, headers=headers, chunks=[data]) for _ in range(3)]
        leaving = [call(app, path=CLASSIFY, headers=headers, chunks=[data], leave_after_body=True) for _ in range(10)]
        answers = await asyncio.gather(*staying, *leaving)
        assert [answer.status for answer in answers] == [200] * 3 + [499] * 10
        assert app.state.context.backend.statistics("slow", "1").success_count < 13
