"""What a row says of a task is what its requests meet: body, images, deadline, cost, metrics, document."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from pydantic import Field

from gateway.app import create_app
from gateway.request.body import MAX_IMAGES, Answer, Body, ImageText, ModelName, PlainText, TaskBody
from gateway.stream import Event, Events
from gateway.tasks.task import Size, Task, TaskCall, ordinary_cost
from services.errors import Kind, Problem
from services.runtime.protocol import Backend
from services.settings import Settings
from tests.support.asgi import call, client
from tests.support.pictures import encoded, photo

MEASURE = "/v1/measure"


class Example(Body):
    """A part of an image, or of the one that is measured."""

    label: PlainText = Field(description="What it is")
    image: ImageText | None = Field(None, description="Where it is")


class MeasureBody(TaskBody):
    """What to measure."""

    model: ModelName | None = Field(None, description="A model")
    image: ImageText | None = Field(None, description="An image")
    images: Annotated[list[ImageText], Field(min_length=1), MAX_IMAGES] | None = Field(None, description="Images")
    mask: ImageText | None = Field(None, description="A mask")
    examples: Annotated[list[Example], Field(min_length=1, max_length=4)] | None = Field(None, description="Examples")
    steps: Annotated[int, Field(ge=1, le=1000)] | None = Field(None, description="How long it takes")


class Measured(Answer):
    """Widths."""

    widths: list[int] = Field(description="Of the images")


class Measuring:
    """Counts, so that a test sees that there is one of it."""

    def __init__(self, backend: Backend, settings: Settings) -> None:
        self.calls = 0
        self.running = asyncio.Event()

    async def run(self, call: TaskCall[MeasureBody]) -> dict[str, Any]:
        self.calls += 1
        self.running.set()
        assert call.options.deadline is not None
        if call.body.steps:
            await asyncio.sleep(call.body.steps / 1000)
        return {
            "widths": np.array([image.width for image in call.images]),
            "others": {pointer: image.width for pointer, image in call.others.items()},
            "labels": [example.label for example in call.body.examples or ()],
            "calls": self.calls,
            "left": call.options.deadline - time.perf_counter(),
        }


def cost(body: MeasureBody, size: Size) -> int:
    return max(ordinary_cost(body, size), (body.steps or 0) // 100)


TASK: Task[MeasureBody, Measuring, dict[str, Any]] = Task(
    name="measure",
    path=MEASURE,
    tag="Measuring",
    summary="Measure images",
    description="How wide is each image?",
    body=MeasureBody,
    answer=Measured,
    examples={"one": {"value": {"image": "aGk="}}},
    service=Measuring,
    default_model=lambda sent, settings: settings.default_classifier,
    run=Measuring.run,
    document=lambda found, body: found,
    cost=cost,
    deadline=lambda settings: 4 * settings.deadline,
)


def image(width: int) -> bytes:
    return encoded(photo(width, 20, 0), "PNG")


def text(width: int) -> str:
    return base64.b64encode(image(width)).decode()


@pytest.fixture
def measuring() -> list[Measuring]:
    """Filled with the services that the application makes."""
    return []


@pytest.fixture
def app(settings: Settings, repository: Path, measuring: list[Measuring]) -> FastAPI:
    update = {"default_classifier": "tiny-classifier", "max_inflight": 4, "deadline": 10.0}

    def serve(backend: Backend, settings: Settings) -> Measuring:
        measuring.append(Measuring(backend, settings))
        return measuring[-1]

    return create_app(settings.model_copy(update=update), tasks=[replace(TASK, service=serve)])


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client(app) as http:
        yield http


async def test_images_of_nested_fields_are_decoded_and_named_by_their_place(http: httpx.AsyncClient) -> None:
    body = {
        "images": [text(8), text(9)],
        "mask": text(10),
        "examples": [{"label": "a"}, {"label": "b", "image": text(11)}],
    }
    answer = await http.post(MEASURE, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["widths"] == [8, 9]
    assert answer.json()["others"] == {"/mask": 10, "/examples/1/image": 11}
    assert answer.json()["labels"] == ["a", "b"]
    assert answer.headers["server-timing"].startswith("decode;dur=")


async def test_what_is_wrong_with_a_nested_image_is_said_of_its_place(http: httpx.AsyncClient) -> None:
    body = {"image": text(8), "examples": [{"label": "a"}, {"label": "b", "image": "bm8gaW1hZ2U="}]}
    answer = await http.post(MEASURE, json=body)
    assert (answer.status_code, answer.json()["pointer"]) == (422, "/examples/1/image")


async def test_an_image_field_may_be_a_file_of_its_name(http: httpx.AsyncClient) -> None:
    files: list[Any] = [("image", ("a.png", image(8))), ("mask", ("m.png", image(10)))]
    answer = await http.post(MEASURE, files=files)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["widths"], answer.json()["others"]) == ([8], {"/mask": 10})

    fields = ("request", (None, json.dumps({"mask": text(10)})))
    twice = await http.post(MEASURE, files=[*files, fields])
    assert (twice.status_code, twice.json()["error"]["code"]) == (422, "field-conflict")
    repeated = await http.post(MEASURE, files=[*files, files[1]])
    assert (repeated.status_code, repeated.json()["error"]["code"]) == (422, "part-unknown")


async def test_one_service_answers_all_requests_of_a_process(http: httpx.AsyncClient) -> None:
    counts = [(await http.post(MEASURE, json={"image": text(8)})).json()["calls"] for _ in range(3)]
    assert counts == [1, 2, 3]


async def test_a_task_has_the_time_that_its_row_gives_it(http: httpx.AsyncClient) -> None:
    left = (await http.post(MEASURE, json={"image": text(8)})).json()["left"]
    assert 30 < left <= 40


async def test_a_request_counts_as_much_as_its_row_says(
    app: FastAPI, http: httpx.AsyncClient, measuring: list[Measuring]
) -> None:
    admission = app.state.context.admission
    running = asyncio.create_task(http.post(MEASURE, json={"image": text(8), "steps": 300}))
    await asyncio.wait_for(measuring[-1].running.wait(), 5)
    assert admission.units == 3
    refused = await http.post(MEASURE, json={"image": text(8), "steps": 200})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
    assert refused.headers["retry-after"] == "1"
    assert (await http.post(MEASURE, json={"image": text(8)})).status_code == 200
    assert (await running).status_code == 200
    assert admission.units == 0
    alone = await http.post(MEASURE, json={"image": text(8), "steps": 900})
    assert alone.status_code == 200


async def test_many_images_are_refused_before_one_is_decoded(app: FastAPI, http: httpx.AsyncClient) -> None:
    app.state.context.admission.units = 1  # somebody else
    answer = await http.post(MEASURE, json={"images": [text(8)] * 50})
    app.state.context.admission.units = 0
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "overloaded")
    assert "decode;dur=0.00" in answer.headers["server-timing"]
    assert (await http.post(MEASURE, json={"images": [text(8)] * 50})).status_code == 200


async def test_a_task_is_counted_and_documented_by_its_row(http: httpx.AsyncClient) -> None:
    await http.post(MEASURE, json={"image": text(8)})
    assert (
        'sightline_requests_total{code="200",model="tiny-classifier",task="measure"} 1.0'
        in (await http.get("/metrics")).text
    )
    document = (await http.get("/openapi.json")).json()
    operation = document["paths"][MEASURE]["post"]
    assert (operation["summary"], operation["tags"]) == ("Measure images", ["Measuring"])
    assert [one["name"] for one in operation["parameters"]] == ["model", "steps"]
    assert set(operation["requestBody"]["content"]) >= {"application/json", "multipart/form-data", "image/png"}
    assert document["components"]["schemas"]["MeasureBody"]["properties"]["examples"]
    assert document["components"]["schemas"]["Example"]
    assert "/v1/classify" not in document["paths"]


class SayBody(TaskBody):
    """A text."""

    text: PlainText = Field(description="What to say")


async def test_a_task_without_images_reads_json_only(settings: Settings, repository: Path) -> None:
    async def say(service: None, call: TaskCall[SayBody]) -> str:
        return call.body.text

    task: Task[SayBody, None, str] = Task(
        name="say",
        path="/v1/say",
        tag="Saying",
        summary="Say",
        description="Say it again.",
        body=SayBody,
        answer=Measured,
        examples={},
        service=lambda backend, settings: None,
        default_model=lambda sent, settings: "tiny-text",
        run=say,
        document=lambda said, body: {"said": said},
    )
    async with client(create_app(settings, tasks=[task])) as http:
        assert (await http.post("/v1/say", json={"text": "hello"})).json() == {"said": "hello"}
        missing = await http.post("/v1/say", json={})
        assert (missing.status_code, missing.json()["pointer"]) == (422, "/text")
        file = await http.post("/v1/say", content=image(8), headers={"content-type": "image/png"})
        assert (file.status_code, file.json()["error"]["code"]) == (415, "content-type-unsupported")
        operation = (await http.get("/openapi.json")).json()["paths"]["/v1/say"]["post"]
        assert set(operation["requestBody"]["content"]) == {"application/json"}
        assert not operation.get("parameters")


class CountBody(TaskBody):
    """How far to count."""

    image: ImageText | None = Field(None, description="An image")
    upto: Annotated[int, Field(ge=0, le=100)] = Field(3, description="The last number")
    stream: bool | None = Field(None, description="One number at a time")


class Counting:
    """Counts, at once or one by one; fails at 13."""

    def __init__(self, backend: Backend, settings: Settings) -> None:
        self.told = asyncio.Event()
        self.ended = 0

    async def run(self, call: TaskCall[CountBody]) -> list[int]:
        return list(range(call.body.upto))

    async def stream(self, call: TaskCall[CountBody]) -> Events:
        try:
            if not call.body.upto:
                raise Problem(Kind.INVALID, "nothing", "Nothing to count", "There is no number.", pointer="/upto")
            for number in range(call.body.upto):
                if number == 13:
                    raise Problem(Kind.UNAVAILABLE, "unlucky", "Thirteen", "It does not count that far.")
                yield Event({"number": number, "width": call.images[0].width if call.images else 0})
                if call.body.upto == 99:
                    self.told.set()
                    await asyncio.sleep(60)
        finally:
            self.ended += 1


class TestStreams:
    @pytest.fixture
    def counting(self) -> list[Counting]:
        return []

    @pytest.fixture
    def app(self, settings: Settings, repository: Path, counting: list[Counting]) -> FastAPI:
        def serve(backend: Backend, settings: Settings) -> Counting:
            counting.append(Counting(backend, settings))
            return counting[-1]

        task: Task[CountBody, Counting, list[int]] = Task(
            name="count",
            path="/v1/count",
            tag="Counting",
            summary="Count",
            description="To a number.",
            body=CountBody,
            answer=Measured,
            examples={},
            service=serve,
            default_model=lambda sent, settings: "tiny-text",
            run=Counting.run,
            stream=Counting.stream,
            document=lambda found, body: {"numbers": found},
            cost=lambda body, size: 3,
        )
        return create_app(settings.model_copy(update={"max_inflight": 4}), tasks=[task])

    async def test_the_same_request_is_answered_whole_or_in_parts(self, http: httpx.AsyncClient) -> None:
        assert (await http.post("/v1/count", json={"upto": 2})).json() == {"numbers": [0, 1]}
        parts = await http.post("/v1/count", json={"upto": 2, "image": text(8), "stream": True})
        assert parts.headers["content-type"].startswith("text/event-stream")
        assert parts.text == ('data: {"number":0,"width":8}\n\ndata: {"number":1,"width":8}\n\ndata: [DONE]\n\n')
        metrics = (await http.get("/metrics")).text
        assert 'sightline_requests_total{code="200",model="tiny-text",task="count"} 2.0' in metrics

    async def test_a_refusal_before_the_first_part_has_its_status(self, http: httpx.AsyncClient) -> None:
        answer = await http.post("/v1/count", json={"upto": 0, "stream": True})
        assert (answer.status_code, answer.json()["pointer"]) == (422, "/upto")
        unknown = await http.post("/v1/count", json={"model": "none", "stream": True})
        assert (unknown.status_code, unknown.json()["pointer"]) == (404, "/model")

    async def test_a_failure_half_way_is_told_in_the_stream(self, app: FastAPI, http: httpx.AsyncClient) -> None:
        answer = await http.post("/v1/count", json={"upto": 50, "stream": True})
        assert answer.status_code == 200
        assert answer.text.count("\n\n") == 14 and "[DONE]" not in answer.text
        problem = json.loads(answer.text.split("event: error\ndata: ")[1])
        assert (problem["status"], problem["error"]["code"]) == (503, "unlucky")
        assert app.state.context.admission.units == 0

    async def test_a_stream_keeps_its_place_until_its_end(
        self, app: FastAPI, http: httpx.AsyncClient, counting: list[Counting]
    ) -> None:
        body = json.dumps({"upto": 99, "stream": True}).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        admission, gone = app.state.context.admission, asyncio.Event()
        watching = asyncio.create_task(call(app, path="/v1/count", headers=headers, chunks=[body], until=gone))
        await asyncio.wait_for(counting[-1].told.wait(), 5)
        assert admission.units == 3
        gone.set()
        answered = await asyncio.wait_for(watching, 5)
        assert answered.status == 200 and b'"number":0' in answered.body
        assert (admission.units, counting[-1].ended) == (0, 1)
        assert not app.state.context.streams._open
