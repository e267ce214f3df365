"""The data sets API: streamed in, checked, described, seen by its owner alone, refused before it is read."""

from __future__ import annotations

import asyncio
import io
import threading
import zipfile
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image

from gateway.app import create_app
from gateway.context import Context
from services.datasets.store import DatasetStore
from services.settings import Settings
from services.storage.keys import KeyStore
from tests.support.asgi import call, client


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings.model_copy(update={"artifact_quota_bytes": 200_000, "max_upload_bytes": 150_000}))


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client(app) as opened:
        yield opened


def archive(**files: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as bundle:
        for name, data in files.items():
            bundle.writestr(name.replace("__", "/").replace("_png", ".png"), data)
    return sink.getvalue()


def png(colour: tuple[int, int, int] = (10, 200, 10)) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (9, 7), colour).save(sink, "PNG")
    return sink.getvalue()


FLAWED = archive(train__cat__1_png=png(), train__dog__2_png=png(), test__cat__3_png=png(), train__dog__bad_png=b"no")
PETS = archive(train__cat__1_png=png(), train__dog__2_png=png(), test__cat__3_png=png())


async def send(http: httpx.AsyncClient, name: str = "pets", data: bytes = PETS, **query: Any) -> httpx.Response:
    headers = {"content-type": "application/zip"}
    return await http.post("/v1/datasets", params={"name": name, **query}, content=data, headers=headers)


async def test_a_set_is_described_with_what_was_left_out(http: httpx.AsyncClient) -> None:
    made = await send(http, data=FLAWED, allow_losses=True)
    assert made.status_code == 201, made.text
    body = made.json()
    assert made.headers["location"] == f"/v1/datasets/{body['id']}"
    assert (body["task"], body["classes"], body["counts"]) == (
        "classification",
        ["cat", "dog"],
        {"train": 2, "test": 1},
    )
    assert body["class_counts"] == {"cat": 2, "dog": 1}
    assert [problem["file"] for problem in body["problems"]] == ["train/dog/bad.png"]
    account = body["account"]
    assert account["layout"]["name"] == "folders" and "'cat'" in account["layout"]["why"]
    assert (account["files"]["seen"], account["files"]["read"]) == (4, 3)
    (group,) = account["files"]["left_out"]
    assert (group["count"], group["examples"]) == (1, ["train/dog/bad.png"])
    for reference in (body["id"], "pets"):
        assert (await http.get(f"/v1/datasets/{reference}")).json() == body
    assert (await http.get("/v1/datasets")).json()["data"] == [body]


async def test_long_imports_keep_nobody_else_waiting(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    go, whole = threading.Event(), DatasetStore.import_

    def slowly(*arguments: Any, **named: Any) -> Any:
        assert go.wait(30)
        return whole(*arguments, **named)

    monkeypatch.setattr(DatasetStore, "import_", slowly)
    imports = [asyncio.create_task(send(http, f"pets-{n}")) for n in range(40)]  # more than threads in the common pool
    try:
        await asyncio.sleep(0.3)
        async with asyncio.timeout(20):
            assert (await http.get("/v1/datasets")).json()["data"] == []
    finally:
        go.set()
        answers = await asyncio.gather(*imports)
    assert {answer.status_code for answer in answers} == {201}


async def test_a_form_with_the_file_is_the_same(http: httpx.AsyncClient) -> None:
    made = await http.post("/v1/datasets", params={"name": "pets"}, files={"file": ("pets.zip", PETS)})
    assert made.status_code == 201 and made.json()["counts"] == {"train": 2, "test": 1}


async def test_fields_of_the_form_say_what_the_query_does(http: httpx.AsyncClient) -> None:
    file = {"file": ("pets.zip", FLAWED)}
    refused = await http.post("/v1/datasets", data={"name": "pets"}, files=file)
    assert refused.status_code == 422 and refused.json()["error"]["code"] == "dataset-losses"
    made = await http.post("/v1/datasets", data={"name": "pets", "allow_losses": "true"}, files=file)
    assert made.status_code == 201 and made.json()["name"] == "pets"


@pytest.mark.parametrize(
    ("fields", "code", "pointer"),
    [
        ({}, "name-missing", "/name"),
        ({"name": "a/b"}, "field-value", "/name"),
        ({"name": "pets", "nmae": "x"}, "field-unknown", "/nmae"),
        ({"name": "pets", "strict": "maybe"}, "field-type", "/strict"),
    ],
)
async def test_a_wrong_field_of_the_form_is_named(
    http: httpx.AsyncClient, fields: dict[str, str], code: str, pointer: str
) -> None:
    answer = await http.post("/v1/datasets", data=fields, files={"file": ("pets.zip", PETS)})
    assert (answer.status_code, answer.json()["error"]["code"], answer.json()["pointer"]) == (422, code, pointer)


async def test_a_body_without_a_name_is_refused_before_it_is_read(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/datasets", content=PETS, headers={"content-type": "application/zip"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "name-missing")


async def test_pictures_are_listed_by_page_and_given_back_as_sent(http: httpx.AsyncClient) -> None:
    await send(http)
    first = (await http.get("/v1/datasets/pets/samples", params={"limit": 2})).json()
    assert [sample["path"] for sample in first["data"]] == ["test/cat/3.png", "train/cat/1.png"]
    rest = (await http.get("/v1/datasets/pets/samples", params={"start": first["next"]})).json()
    assert [sample["labels"] for sample in rest["data"]] == [["dog"]] and rest["next"] is None
    only = (await http.get("/v1/datasets/pets/samples", params={"split": "test"})).json()["data"]
    assert [(one["split"], one["width"], one["height"]) for one in only] == [("test", 9, 7)]
    picture = await http.get(only[0]["url"])
    assert (picture.content, picture.headers["content-type"]) == (png(), "image/png")
    assert (await http.get("/v1/datasets/pets/samples/99/image")).status_code == 404


@pytest.mark.parametrize(
    ("data", "query", "status", "code"),
    [
        (b"not an archive", {}, 415, "archive-unrecognised"),
        (b"", {}, 400, "upload-empty"),
        (FLAWED, {"strict": True}, 422, "dataset-flawed"),
        (FLAWED, {}, 422, "dataset-losses"),
        (PETS, {"layout": "cocoa"}, 422, "dataset-layout-unknown"),
        (archive(**{"..__up_png": png()}), {}, 422, "archive-path"),
        (archive(train__cat__1_png=b"no"), {}, 422, "dataset-empty"),
        (archive(readme=b"hello"), {}, 422, "dataset-layout-unknown"),
        (PETS, {"name": "a/b"}, 422, "validation"),
        (b"x" * 250_000, {}, 413, None),
    ],
)
async def test_a_refused_upload_says_why_and_leaves_nothing(
    http: httpx.AsyncClient, app: FastAPI, data: bytes, query: dict[str, Any], status: int, code: str | None
) -> None:
    answer = await send(http, data=data, **query)
    assert answer.status_code == status, answer.text
    if code not in (None, "validation"):
        assert answer.json()["error"]["code"] == code
    assert (await http.get("/v1/datasets")).json()["data"] == []
    context: Context = app.state.context
    scratch = context.settings.scratch_dir
    assert not scratch.is_dir() or list(scratch.iterdir()) == []


async def test_flaws_of_a_refused_set_are_listed(http: httpx.AsyncClient) -> None:
    answer = await send(http, data=FLAWED, strict=True)
    assert answer.json()["problems"][0]["file"] == "train/dog/bad.png"


async def test_a_name_is_taken_until_its_set_is_deleted(http: httpx.AsyncClient) -> None:
    first = (await send(http)).json()
    assert (await send(http)).status_code == 409
    assert (await http.delete(f"/v1/datasets/{first['id']}")).json()["deleted"] is True
    assert (await http.get("/v1/datasets/pets")).status_code == 404
    assert (await send(http)).status_code == 201


async def test_another_key_finds_nothing(http: httpx.AsyncClient, app: FastAPI) -> None:
    keys = KeyStore(app.state.context.jobs.engine)
    (_, one), (_, two) = keys.create("one", ("jobs",)), keys.create("two", ("jobs",))
    mine = {"authorization": f"Bearer {one}", "content-type": "application/zip"}
    made = await http.post("/v1/datasets", params={"name": "pets"}, content=PETS, headers=mine)
    assert made.status_code == 201, made.text
    theirs = {"authorization": f"Bearer {two}"}
    for path in ("pets", made.json()["id"], "pets/samples", "pets/samples/0/image"):
        assert (await http.get(f"/v1/datasets/{path}", headers=theirs)).status_code == 404
    assert (await http.delete("/v1/datasets/pets", headers=theirs)).status_code == 404
    assert (await http.get("/v1/datasets", headers=theirs)).json()["data"] == []


async def test_a_body_over_the_quota_is_refused_before_it_is_read(app: FastAPI) -> None:
    headers = {"content-length": "50000000", "content-type": "application/zip", "host": "127.0.0.1"}
    answer = await call(app, path="/v1/datasets?name=pets", headers=headers, chunks=[b"x"])
    assert answer.status == 413
