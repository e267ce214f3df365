"""Both clients against a scripted platform: what they send, what they make of the answers, when they try again."""

from __future__ import annotations

import base64
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from sightline import APIError, AsyncClient, Client, Unreachable
from sightline.client import Retries
from sightline.client import images as pictures

ANSWER = {
    "object": "classification",
    "model": "m",
    "version": "2",
    "results": [
        {"index": 0, "width": 4, "height": 3, "predictions": [{"label": "a cat", "score": 0.9}], "none_of_these": 0.1},
        {"index": 1, "width": 5, "height": 6, "predictions": []},
    ],
}
PROBLEM = {
    "type": "https://sightline.dev/problems/image-truncated",
    "title": "Image is truncated",
    "status": 422,
    "detail": "JPEG ends early.",
    "pointer": "/images/0",
    "remedy": "Send the whole file.",
    "request_id": "r1",
}
AT_ONCE = Retries(attempts=3, first=0.0)


class Script:
    """Answers in order; remembers the requests."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def body(self, index: int = 0) -> Any:
        return json.loads(self.requests[index].content)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIGHTLINE_URL", raising=False)
    monkeypatch.delenv("SIGHTLINE_API_KEY", raising=False)


Ask = Callable[..., Any]


@pytest.fixture(params=["blocking", "async"])
def ask(request: pytest.FixtureRequest) -> Iterator[Ask]:
    """Calls a method of either client with a script for a network."""
    import asyncio

    def call(script: Script, method: str, *args: Any, client: dict[str, Any] | None = None, **options: Any) -> Any:
        settings = {"retries": AT_ONCE, "transport": httpx.MockTransport(script), **(client or {})}
        if request.param == "blocking":
            with Client(**settings) as blocking:
                return getattr(blocking, method)(*args, **options)

        async def run() -> Any:
            async with AsyncClient(**settings) as asynchronous:
                return await getattr(asynchronous, method)(*args, **options)

        return asyncio.run(run())

    yield call


def test_classify_sends_what_was_said_and_nothing_else(ask: Ask) -> None:
    script = Script(httpx.Response(200, json=ANSWER))
    ask(script, "classify", b"bytes", ["a cat", "a dog"], top_k=2)
    assert script.requests[0].url == "http://127.0.0.1:8000/v1/classify"
    assert script.body() == {
        "images": [base64.b64encode(b"bytes").decode()],
        "labels": ["a cat", "a dog"],
        "top_k": 2,
    }


def test_classify_returns_typed_results(ask: Ask) -> None:
    headers = {"x-request-id": "r9", "server-timing": "decode;dur=1.5, queue;dur=0.0, infer;dur=20.25"}
    script = Script(httpx.Response(200, json=ANSWER, headers=headers))
    answer = ask(script, "classify", [b"1", b"2"], ["a cat"])
    assert (answer.model, answer.version, answer.request_id, len(answer)) == ("m", "2", "r9", 2)
    assert answer[0].best.label == "a cat" and answer[0].none_of_these == 0.1
    assert answer[1].best is None and answer[1].none_of_these is None
    assert answer.timings == {"decode": 1.5, "queue": 0.0, "infer": 20.25}


def test_embeddings_are_float32_rows_in_the_order_sent(ask: Ask) -> None:
    def row(index: int, *values: float) -> dict[str, Any]:
        data = base64.b64encode(np.array(values, dtype="<f4").tobytes()).decode()
        return {"object": "embedding", "index": index, "embedding": data}

    script = Script(httpx.Response(200, json={"model": "t", "data": [row(1, 3, 4), row(0, 1, 2)]}))
    answer = ask(script, "embed", ["one", "two"])
    assert script.body() == {"input": ["one", "two"], "encoding_format": "base64"}
    assert answer.vectors.dtype == np.float32
    np.testing.assert_array_equal(answer.vectors, [[1, 2], [3, 4]])


def test_models_are_listed(ask: Ask) -> None:
    entry = {"id": "m", "object": "model", "task": "classify", "version": "1", "state": "READY", "card": {"title": "M"}}
    (model,) = ask(Script(httpx.Response(200, json={"object": "list", "data": [entry]})), "models")
    assert (model.name, model.task, model.state, model.card["title"]) == ("m", "classify", "READY", "M")


def test_a_problem_becomes_an_error_with_its_fields(ask: Ask) -> None:
    with pytest.raises(APIError) as caught:
        ask(Script(httpx.Response(422, json=PROBLEM)), "classify", b"x")
    error = caught.value
    assert (error.status, error.code, error.pointer) == (422, "image-truncated", "/images/0")
    assert (error.detail, error.remedy, error.request_id) == ("JPEG ends early.", "Send the whole file.", "r1")


def test_a_refusal_of_somebody_else_is_an_error_too(ask: Ask) -> None:
    with pytest.raises(APIError) as caught:
        ask(Script(httpx.Response(502, text="<html>Bad gateway</html>")), "models")
    assert caught.value.status == 502


@pytest.mark.parametrize("answer", [{"data": [{}]}, {}, [], "text"])
def test_an_answer_that_makes_no_sense_is_an_error(ask: Ask, answer: object) -> None:
    with pytest.raises(APIError, match="something else"):
        ask(Script(httpx.Response(200, json=answer)), "models")


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_platform_is_asked_again(ask: Ask, status: int) -> None:
    busy = httpx.Response(status, json=PROBLEM, headers={"retry-after": "0"})
    script = Script(busy, busy, httpx.Response(200, json=ANSWER))
    assert ask(script, "classify", b"x").model == "m"
    assert len(script.requests) == 3 and script.body(0) == script.body(2)


def test_the_last_refusal_is_raised(ask: Ask) -> None:
    script = Script(*[httpx.Response(429, json=PROBLEM) for _ in range(9)])
    with pytest.raises(APIError) as caught:
        ask(script, "classify", b"x")
    assert caught.value.status == 429 and len(script.requests) == 3


def test_a_wrong_request_is_not_sent_again(ask: Ask) -> None:
    script = Script(*[httpx.Response(422, json=PROBLEM) for _ in range(9)])
    with pytest.raises(APIError):
        ask(script, "classify", b"x")
    assert len(script.requests) == 1


def test_a_broken_connection_is_tried_again(ask: Ask) -> None:
    script = Script(httpx.ConnectError("refused"), httpx.ReadError("reset"), httpx.Response(200, json=ANSWER))
    assert ask(script, "classify", b"x").model == "m"


def test_a_time_out_is_not_tried_again(ask: Ask) -> None:
    script = Script(httpx.ReadTimeout("slow"), httpx.Response(200, json=ANSWER))
    with pytest.raises(Unreachable, match="no answer in time"):
        ask(script, "classify", b"x")


def test_nobody_there_says_how_to_start_somebody(ask: Ask) -> None:
    script = Script(*[httpx.ConnectError("Connection refused") for _ in range(9)])
    with pytest.raises(Unreachable, match="no server answers there") as caught:
        ask(script, "models")
    assert "sightline serve" in (caught.value.remedy or "")


def test_the_key_is_sent_as_a_bearer_token(ask: Ask) -> None:
    script = Script(httpx.Response(200, json=ANSWER))
    ask(script, "classify", b"x", client={"api_key": "sl_1", "url": "http://example.test/base/"})
    assert script.requests[0].headers["authorization"] == "Bearer sl_1"
    assert script.requests[0].url == "http://example.test/base/v1/classify"


def test_address_and_key_come_from_the_environment(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_URL", "http://example.test:81")
    monkeypatch.setenv("SIGHTLINE_API_KEY", "sl_2")
    script = Script(httpx.Response(200, json=ANSWER))
    ask(script, "classify", b"x")
    assert script.requests[0].url.host == "example.test"
    assert script.requests[0].headers["authorization"] == "Bearer sl_2"


def test_an_address_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(Unreachable, match="is no http"):
        Client("localhost:8000")


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, str]:
        return {name: str(inspect.signature(f)) for name, f in vars(kind).items() if not name.startswith("_")}

    assert methods(Client) == methods(AsyncClient)


def test_retries_honour_what_the_platform_asks_up_to_a_bound() -> None:
    retries = Retries(attempts=3, first=1.0, longest=10.0)
    assert 5 <= (retries.pause(1, 5.0) or 0) <= 5.5
    assert retries.pause(1, 11.0) is None
    assert retries.pause(3, 1.0) is None
    assert 0.5 <= (retries.pause(1) or 0) <= 1.0 and 1.0 <= (retries.pause(2) or 0) <= 2.0


def test_a_file_is_read_and_a_missing_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"jpeg")
    assert base64.b64decode(pictures.as_text(tmp_path / "a.jpg")) == b"jpeg"
    assert pictures.as_text(str(tmp_path / "a.jpg")) == pictures.as_text(b"jpeg")
    with pytest.raises(pictures.ImageError, match=r"b\.jpg"):
        pictures.as_text(tmp_path / "b.jpg")


@pytest.mark.parametrize("text", ["https://example.test/a.jpg", "data:image/png;base64,AA==", "artifact:art_1"])
def test_references_are_passed_on(text: str) -> None:
    assert pictures.as_text(text) == text


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
def test_an_array_travels_without_loss(shape: tuple[int, ...]) -> None:
    import io

    from PIL import Image

    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    sent = Image.open(io.BytesIO(base64.b64decode(pictures.as_text(array))))
    np.testing.assert_array_equal(np.asarray(sent), array)


def test_a_pillow_image_keeps_its_orientation() -> None:
    import io

    from PIL import Image

    image = Image.new("RGB", (4, 2))
    image.getexif()[0x0112] = 6
    sent = Image.open(io.BytesIO(base64.b64decode(pictures.as_text(image))))
    assert sent.getexif()[0x0112] == 6


@pytest.mark.parametrize("value", [np.zeros((2, 2), np.float32), np.zeros((2, 2, 2), np.uint8), 7, None])
def test_what_is_no_image_is_refused(value: Any) -> None:
    with pytest.raises(pictures.ImageError, match="is no image"):
        pictures.as_text(value)


def test_embed_takes_texts_or_images_not_both(ask: Ask) -> None:
    from sightline import SightlineError

    with pytest.raises(SightlineError, match="either texts or images"):
        ask(Script(), "embed")
