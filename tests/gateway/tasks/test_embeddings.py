"""OpenAI's client works unchanged, and images are embedded by the same endpoint."""

from __future__ import annotations

import asyncio
import base64
import io
import math
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from gateway.app import create_app
from services.settings import Settings
from tests.support import tiny_models
from tests.support.asgi import client
from tests.support.server import Server, serving

EMBEDDINGS = "/v1/embeddings"


@pytest.fixture
def configured(settings: Settings, repository: Path) -> Settings:
    return settings.model_copy(
        update={"default_text_encoder": "tiny-text", "default_classifier": "tiny-classifier", "log_level": "warning"}
    )


@pytest.fixture
async def http(configured: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with client(create_app(configured)) as http:
        yield http


def png(color: str) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (20, 10), color).save(sink, "PNG")
    return sink.getvalue()


def norm(vector: list[float]) -> float:
    return math.sqrt(sum(number * number for number in vector))


async def test_texts_or_images_are_embedded_and_not_both(http: httpx.AsyncClient) -> None:
    image = base64.b64encode(png("red")).decode()
    for body, code in (({}, "input-missing"), ({"input": "a", "image": image}, "field-conflict")):
        answer = await http.post(EMBEDDINGS, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, code)
        assert answer.json()["pointer"] == "/input"


async def test_texts_become_unit_vectors_in_order(http: httpx.AsyncClient) -> None:
    texts = ["a red apple", "the old car", "a dog"]
    body = (await http.post(EMBEDDINGS, json={"model": "tiny-text", "input": texts})).json()
    assert (body["object"], body["model"]) == ("list", "tiny-text")
    assert [one["index"] for one in body["data"]] == [0, 1, 2]
    assert all(one["object"] == "embedding" for one in body["data"])
    assert [len(one["embedding"]) for one in body["data"]] == [tiny_models.TEXT_DIM] * 3
    assert all(norm(one["embedding"]) == pytest.approx(1, abs=1e-5) for one in body["data"])
    # [CLS] a red apple [SEP], [CLS] the old car [SEP], [CLS] a dog [SEP]
    assert body["usage"] == {"prompt_tokens": 14, "total_tokens": 14}
    alone = (await http.post(EMBEDDINGS, json={"input": texts[1]})).json()
    assert alone["data"][0]["embedding"] == pytest.approx(body["data"][1]["embedding"], abs=1e-6)


async def test_base64_holds_the_same_numbers(http: httpx.AsyncClient) -> None:
    plain = (await http.post(EMBEDDINGS, json={"input": "a cat"})).json()["data"][0]["embedding"]
    coded = (await http.post(EMBEDDINGS, json={"input": "a cat", "encoding_format": "base64"})).json()
    numbers = np.frombuffer(base64.b64decode(coded["data"][0]["embedding"]), "<f4")
    assert numbers.tolist() == pytest.approx(plain, abs=1e-7)


async def test_fewer_dimensions_are_unit_vectors_again(http: httpx.AsyncClient) -> None:
    whole = (await http.post(EMBEDDINGS, json={"input": "a cat"})).json()["data"][0]["embedding"]
    cut = (await http.post(EMBEDDINGS, json={"input": "a cat", "dimensions": 4})).json()["data"][0]["embedding"]
    length = norm(whole[:4])
    assert cut == pytest.approx([number / length for number in whole[:4]], abs=1e-5)


async def test_images_are_embedded_as_json_form_and_raw(http: httpx.AsyncClient) -> None:
    red, blue = png("red"), png("blue")
    images = [base64.b64encode(one).decode() for one in (red, blue)]
    body = (await http.post(EMBEDDINGS, json={"model": "tiny-classifier", "images": images})).json()
    assert [len(one["embedding"]) for one in body["data"]] == [tiny_models.FEATURES] * 2
    assert body["usage"]["total_tokens"] == 0
    form = (await http.post(EMBEDDINGS, files=[("image", ("a", red)), ("image", ("b", blue))])).json()
    assert [one["embedding"] for one in form["data"]] == [one["embedding"] for one in body["data"]]
    raw = await http.post(EMBEDDINGS + "?dimensions=3", content=red, headers={"content-type": "image/png"})
    assert len(raw.json()["data"][0]["embedding"]) == 3


async def test_models_that_cannot_are_refused(http: httpx.AsyncClient) -> None:
    answer = await http.post(EMBEDDINGS, json={"model": "tiny-adder", "input": "a"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "model-embeds-no-text")
    assert answer.json()["pointer"] == "/model"
    answer = await http.post(EMBEDDINGS, content=png("red"), headers={"content-type": "image/png"})
    assert answer.status_code == 200
    image = base64.b64encode(png("red")).decode()
    answer = await http.post(EMBEDDINGS, json={"model": "tiny-text", "image": image})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "model-embeds-no-image")


async def test_a_text_that_is_cut_is_named_and_may_be_refused(http: httpx.AsyncClient) -> None:
    """Two texts that differ behind what the model reads have one embedding: the answer says so."""
    same = "the cat sat on the mat. " * 60
    texts = [same + "Rockets fly to Mars.", "a cat", same + "Banks raise interest."]
    body = (await http.post(EMBEDDINGS, json={"input": texts})).json()
    assert body["data"][0]["embedding"] == pytest.approx(body["data"][2]["embedding"], abs=1e-6)
    assert [(one["index"], one["kept"]) for one in body["truncated"]] == [(0, 32), (2, 32)]
    assert all(one["tokens"] > 300 for one in body["truncated"])
    assert body["usage"]["prompt_tokens"] == 32 + 4 + 32

    refused = await http.post(EMBEDDINGS, json={"input": texts[1:], "truncate": False})
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "text-too-long")
    assert refused.json()["pointer"] == "/input/1"
    refused = await http.post(EMBEDDINGS, json={"input": texts[0], "truncate": False})
    assert refused.json()["pointer"] == "/input/0"  # a text alone stands for an array of one


async def test_nothing_is_said_of_texts_that_are_read_whole(http: httpx.AsyncClient) -> None:
    body = (await http.post(EMBEDDINGS, json={"input": ["a cat"], "truncate": False})).json()
    assert sorted(body) == ["data", "model", "object", "usage", "version"]


async def test_texts_of_which_the_model_knows_nothing_are_named(http: httpx.AsyncClient) -> None:
    body = (await http.post(EMBEDDINGS, json={"input": ["a cat", "🍎"]})).json()
    assert [(note["code"], note["indices"]) for note in body["notes"]] == [("input-unread", [1])]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("openai")
    settings = Settings(data_dir=folder / "data", log_level="warning", default_text_encoder="tiny-text")
    tiny_models.add_all(settings.models_dir)
    with serving(settings, folder) as server:
        yield server


def test_openais_client_works_unchanged(server: Server) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="not-needed", max_retries=0) as client:
        made = client.embeddings.create(model="tiny-text", input=["a red apple", "a dog"])
        assert [len(one.embedding) for one in made.data] == [tiny_models.TEXT_DIM] * 2
        assert norm(made.data[0].embedding) == pytest.approx(1, abs=1e-5)
        assert made.usage.total_tokens == 9
        cut = client.embeddings.create(model="tiny-text", input="the cat " * 200)
        assert len(cut.data[0].embedding) == tiny_models.TEXT_DIM
        assert cut.model_extra["truncated"][0]["kept"] == 32
        plain = client.embeddings.create(model="tiny-text", input="a dog", encoding_format="float", dimensions=5)
        assert len(plain.data[0].embedding) == 5
        assert "tiny-text" in [model.id for model in client.models.list()]
        assert client.models.retrieve("tiny-text").owned_by == "tiny"
        with pytest.raises(openai.NotFoundError) as missing:
            client.embeddings.create(model="none-such", input="a")
        assert (missing.value.code, missing.value.param) == ("model-not-found", "model")
        with pytest.raises(openai.UnprocessableEntityError) as tokens:
            client.embeddings.create(model="tiny-text", input=[1, 2, 3])
        assert tokens.value.code == "input-tokens"


async def test_openais_asynchronous_client_sends_many_at_once(server: Server) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as client:
        texts = [f"a cat {number}" for number in range(20)]
        made = await asyncio.gather(*(client.embeddings.create(model="tiny-text", input=text) for text in texts))
        together = await client.embeddings.create(model="tiny-text", input=texts)
    for one, same in zip(made, together.data, strict=True):
        assert one.data[0].embedding == pytest.approx(same.embedding, abs=1e-5)
