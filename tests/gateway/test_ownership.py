"""A model that a key's job has made is there for that key and for administrators; to others it is no model at all."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.app import create_app
from models.catalog.card import Card
from models.repository.ownership import MadeBy, ownership_of
from models.repository.reading import latest
from models.repository.writer import remove, write_version, writing
from services.settings import Settings
from services.storage.database import connect, upgrade
from services.storage.keys import KeyStore
from tests.support import tiny_models
from tests.support.asgi import client

PRIVATE, MISSING = "my-adder", "no-adder"
ROWS = {"inputs": [{"name": name, "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]} for name in "ab"]}


@dataclasses.dataclass
class Place:
    """A platform with three keys, and a model that a job of ``owner`` has made."""

    http: httpx.AsyncClient
    settings: Settings
    headers: dict[str, dict[str, str]]
    owner: str

    async def ask(self, who: str, method: str, path: str, body: object = None) -> httpx.Response:
        return await self.http.request(method, path, json=body, headers=self.headers[who])

    async def told(self, who: str, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and body, without what is of the request alone."""
        answer = await self.ask(who, method, path, body)
        document = answer.json()
        if isinstance(document, dict):
            document.pop("request_id", None)
        return answer.status_code, document


@pytest.fixture
def settings(tmp_path: Any) -> Settings:
    return Settings(data_dir=tmp_path / "data", auth="required", preload=("*",), log_level="warning", jobs=False)


@pytest.fixture
async def place(settings: Settings, repository: Path) -> AsyncIterator[Place]:
    upgrade(settings.database)
    store = KeyStore(connect(settings.database))
    headers, ids = {}, {}
    for who, scopes in (("owner", ("infer", "jobs")), ("other", ("infer", "jobs")), ("admin", ("admin",))):
        key, secret = store.create(who, scopes)
        headers[who], ids[who] = {"X-API-Key": secret}, key.id
    adopt(settings, "tiny-adder", PRIVATE, ids["owner"])
    async with client(create_app(settings)) as http:
        yield Place(http, settings, headers, ids["owner"])


def adopt(settings: Settings, source: str, name: str, key: str, **changes: Any) -> None:
    """Write a copy of a tiny model as what a job of ``key`` has made."""
    folder = latest(settings.models_dir, source)
    assert folder is not None
    card = Card.read(folder).model_copy(update={"name": name, **changes})
    files = {path: folder / path for path in card.files}
    write_version(settings.models_dir, card, files, made_by=MadeBy(key=key, job="job_1"))


ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "/v1/models/{}", None),
    ("POST", "/v1/classify", {"model": "{}", "image": "data:image/png;base64,AAAA"}),
    ("POST", "/v1/embeddings", {"model": "{}", "input": ["a"]}),
    ("GET", "/v2/models/{}", None),
    ("GET", "/v2/models/{}/versions/1", None),
    ("GET", "/v2/models/{}/versions/7", None),
    ("GET", "/v2/models/{}/ready", None),
    ("GET", "/v2/models/{}/config", None),
    ("GET", "/v2/models/{}/stats", None),
    ("POST", "/v2/models/{}/infer", ROWS),
    ("POST", "/v2/models/{}/versions/1/infer", ROWS),
    ("POST", "/v1/jobs", {"kind": "benchmark", "parameters": {"models": ["{}"]}}),
    ("POST", "/v1/models/{}/load", None),
    ("POST", "/v1/models/{}/unload", None),
    ("POST", "/v1/models/{}/share", None),
    ("DELETE", "/v1/models/{}/share", None),
    ("POST", "/v2/repository/models/{}/load", {}),
    ("POST", "/v2/repository/models/{}/unload", {}),
    ("DELETE", "/v1/models/{}", None),
]  # fmt: skip
CHANGES = ("/load", "/unload", "/share")


def named(value: Any, name: str) -> Any:
    """A path or a body that asks for ``name``."""
    return json.loads(json.dumps(value).replace("{}", name)) if value not in (None, {}) else value


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_another_key_is_told_what_it_is_told_of_a_name_that_nobody_gave(
    place: Place, method: str, path: str, body: Any
) -> None:
    hidden = await place.told("other", method, named(path, PRIVATE), named(body, PRIVATE))
    absent = await place.told("other", method, named(path, MISSING), named(body, MISSING))
    assert hidden[0] == absent[0] == 404
    assert json.loads(json.dumps(hidden[1]).replace(PRIVATE, MISSING)) == absent[1]
    assert (await place.ask("owner", "GET", f"/v1/models/{PRIVATE}")).json()["state"] == "READY"


@pytest.mark.parametrize("who", ["owner", "admin"])
@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_its_owner_and_administrators_find_it_everywhere(
    place: Place, who: str, method: str, path: str, body: Any
) -> None:
    status, told = await place.told(who, method, named(path, PRIVATE), named(body, PRIVATE))
    if path.endswith("/versions/7"):
        assert (status, told["error"].find("version") >= 0) == (404, True)
    else:
        assert status != 404 and status != 403, told


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_a_shared_model_is_used_by_all_and_changed_by_its_owner(
    place: Place, method: str, path: str, body: Any
) -> None:
    assert (await place.told("owner", "POST", f"/v1/models/{PRIVATE}/share"))[1]["shared"] is True
    status, told = await place.told("other", method, named(path, PRIVATE), named(body, PRIVATE))
    if path.endswith(CHANGES) or method == "DELETE":
        assert status == 403
    elif path.endswith("/versions/7"):
        assert status == 404
    else:
        assert status not in (403, 404), told


@pytest.mark.parametrize(("method", "path"), [
    ("GET", "/v1/models"), ("POST", "/v2/repository/index"), ("GET", "/v2/models/stats"),
])  # fmt: skip
async def test_lists_have_it_for_those_it_is_there_for(place: Place, method: str, path: str) -> None:
    async def listed(who: str) -> bool:
        return PRIVATE in (await place.ask(who, method, path)).text

    assert [await listed(who) for who in ("owner", "admin", "other")] == [True, True, False]
    await place.ask("owner", "POST", f"/v1/models/{PRIVATE}/share")
    assert await listed("other")
    await place.ask("owner", "DELETE", f"/v1/models/{PRIVATE}/share")
    assert not await listed("other")


async def test_no_answer_names_the_key_or_the_job_that_made_a_model(place: Place) -> None:
    await place.ask("owner", "POST", f"/v1/models/{PRIVATE}/share")
    for path in ("/v1/models", f"/v1/models/{PRIVATE}", f"/v2/models/{PRIVATE}", f"/v2/models/{PRIVATE}/config"):
        said = (await place.ask("other", "GET", path)).text
        assert PRIVATE in said and place.owner not in said and "job_1" not in said


async def test_the_owner_of_a_model_of_an_earlier_release_is_read_and_its_note_is_not_shown(place: Place) -> None:
    model = place.settings.models_dir / PRIVATE
    card = json.loads((model / "1/card.json").read_text())
    card["provenance"] = [{"source": "dataset:ds_1", "sha256": "0", "note": f"made by job job_9 for {place.owner}"}]
    (model / "1/card.json").write_text(json.dumps(card))
    (model / "ownership.json").unlink()
    assert (await place.told("admin", "POST", f"/v1/models/{PRIVATE}/load"))[0] == 200
    assert (await place.told("other", "GET", f"/v1/models/{PRIVATE}"))[0] == 404
    status, told = await place.told("owner", "GET", f"/v1/models/{PRIVATE}")
    assert status == 200 and told["card"]["provenance"][0]["note"] == ""
    assert place.owner not in json.dumps(told) and "job_9" not in json.dumps(told)


async def test_a_removed_model_is_gone_and_its_name_is_free(place: Place) -> None:
    status, told = await place.told("owner", "DELETE", f"/v1/models/{PRIVATE}")
    assert (status, told) == (200, {"id": PRIVATE, "object": "model", "deleted": True})
    assert (await place.told("owner", "POST", f"/v2/models/{PRIVATE}/infer", ROWS))[0] == 404
    assert latest(place.settings.models_dir, PRIVATE) is None
    adopt(place.settings, "tiny-adder", PRIVATE, "key_else")
    assert (await place.told("owner", "GET", f"/v1/models/{PRIVATE}"))[0] == 404


async def test_models_of_the_platform_are_neither_shared_nor_removed_by_keys(place: Place) -> None:
    assert (await place.told("owner", "DELETE", "/v1/models/tiny-adder"))[0] == 403
    status, told = await place.told("admin", "POST", "/v1/models/tiny-adder/share")
    assert (status, told["error"]["code"]) == (409, "model-unchangeable")


async def test_what_a_pipeline_is_made_of_is_not_removed_from_under_it(place: Place) -> None:
    pipeline = {"kind": "dual-encoder", "image_model": "tiny-classifier", "text_model": "tiny-text"}
    card = tiny_models.card("tiny-open", task="zero-shot-classify").model_dump()
    tiny_models.write(place.settings.models_dir, Card.model_validate(card | {"pipeline": pipeline}), {})
    status, told = await place.told("admin", "DELETE", "/v1/models/tiny-classifier")
    assert (status, told["error"]["code"], told["pointer"]) == (409, "model-needed", "/name")
    assert (await place.told("admin", "GET", "/v1/models/tiny-classifier"))[1]["state"] == "READY"


async def test_parts_follow_the_pipeline_that_they_were_made_for(place: Place) -> None:
    root, made_by = place.settings.models_dir, MadeBy(key=place.owner, job="job_2")
    folder = latest(root, "tiny-adder")
    assert folder is not None
    with writing(root, "pair", "pair-image") as held:
        for name, whole in (("pair-image", "pair"), ("pair", None)):
            card = Card.read(folder).model_copy(update={"name": name})
            held.write(card, {path: folder / path for path in card.files}, made_by=made_by, part_of=whole)
    await place.ask("owner", "POST", "/v1/models/pair/load")
    assert (await place.told("other", "GET", "/v2/models/pair-image"))[0] == 404
    await place.ask("owner", "POST", "/v1/models/pair/share")
    assert (await place.told("other", "GET", "/v1/models/pair-image"))[0] == 200
    assert (await place.told("owner", "POST", "/v1/models/pair-image/share"))[0] == 409
    assert (await place.told("owner", "DELETE", "/v1/models/pair"))[0] == 200
    assert latest(root, "pair-image") is None


async def test_looking_up_an_owner_reads_no_file_until_the_generation_changes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []

    def counted(root: Any, name: str) -> Any:
        reads.append(name)
        return ownership_of(root, name)

    monkeypatch.setattr("services.ownership.ownership_of", counted)
    for _ in range(5):
        await place.ask("other", "POST", f"/v2/models/{PRIVATE}/infer", ROWS)
        await place.ask("owner", "POST", f"/v2/models/{PRIVATE}/infer", ROWS)
    assert reads in ([], [PRIVATE])
    await place.ask("admin", "POST", f"/v1/models/{PRIVATE}/share")
    assert (await place.ask("other", "POST", f"/v2/models/{PRIVATE}/infer", ROWS)).status_code == 200


async def test_without_keys_everybody_is_the_owner(tmp_path: Any) -> None:
    settings = Settings(data_dir=tmp_path / "data", auth="off", preload=("*",), log_level="warning", jobs=False)
    tiny_models.add_all(settings.models_dir)
    adopt(settings, "tiny-adder", PRIVATE, "key_gone")
    async with client(create_app(settings)) as http:
        assert (await http.get(f"/v1/models/{PRIVATE}")).json()["shared"] is False
        assert (await http.delete(f"/v1/models/{PRIVATE}")).status_code == 200
    with pytest.raises(Exception, match="no model"):
        remove(settings.models_dir, PRIVATE)
