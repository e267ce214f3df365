"""Models are listed in OpenAI's shape, shown with their cards, and loaded and unloaded by administrators."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gateway.app import create_app
from services.settings import Settings
from tests.support import tiny_models
from tests.support.asgi import client


@pytest.fixture
async def http(settings: Settings, repository: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with client(create_app(settings)) as http:
        yield http


async def test_the_list_has_openais_shape_and_more(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/v1/models")).json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["tiny-adder", "tiny-classifier", "tiny-echo", "tiny-text"]
    classifier = listed["data"][1]
    assert classifier["object"] == "model"
    assert classifier["created"] > 1_600_000_000
    assert (classifier["owned_by"], classifier["task"]) == ("tiny", "classify")
    assert (classifier["version"], classifier["state"]) == ("1", "READY")
    assert classifier["providers"] == ["CPUExecutionProvider"]
    assert classifier["card"]["licence"]["spdx"] == "CC0-1.0"


async def test_one_model_is_shown_and_an_unknown_one_is_a_404(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v1/models/tiny-text")).json()["task"] == "embed-text"
    for name in ("none-such", "..", "%2e%2e%2f%2e%2e%2fetc", "a%00b", "x" * 300, "TINY-TEXT"):
        answer = await http.get(f"/v1/models/{name}")
        assert answer.status_code == 404, name


async def test_a_model_can_be_unloaded_and_loaded_again(http: httpx.AsyncClient) -> None:
    unloaded = await http.post("/v1/models/tiny-classifier/unload")
    assert (unloaded.status_code, unloaded.json()["state"]) == (200, "UNAVAILABLE")
    assert (await http.get("/v1/models/tiny-classifier")).json()["state"] == "UNAVAILABLE"
    loaded = await http.post("/v1/models/tiny-classifier/load")
    assert (loaded.status_code, loaded.json()["state"]) == (200, "READY")
    assert (await http.post("/v1/models/none-such/load")).status_code == 404


async def test_a_new_version_is_shown_first_once_it_is_loaded(http: httpx.AsyncClient, repository: Path) -> None:
    tiny_models.add_adder(repository, version="2", offset=1)
    shown = (await http.get("/v1/models/tiny-adder")).json()
    assert (shown["version"], [one["version"] for one in shown["versions"]]) == ("1", ["2", "1"])
    await http.post("/v1/models/tiny-adder/load")
    assert (await http.get("/v1/models/tiny-adder")).json()["version"] == "2"


async def test_a_load_that_fails_says_why_and_leaves_what_served(http: httpx.AsyncClient, repository: Path) -> None:
    folder = tiny_models.add_adder(repository, version="2", offset=1)
    (folder / "model.onnx").write_bytes(b"damaged")
    answer = await http.post("/v1/models/tiny-adder/load")
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "model-damaged"
    assert (await http.get("/v1/models/tiny-adder")).json()["version"] == "1"
    shutil.rmtree(folder)
