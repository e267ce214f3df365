"""NUL and other control characters wherever a name can be written, over SQLite and PostgreSQL, which refuses NUL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from gateway.app import create_app
from services.settings import Settings
from services.storage.database import upgrade
from tests.support import tiny_models
from tests.support.asgi import client
from tests.support.postgres import Postgres

BAD = ["%00", "a%00b", "a%01b", "a%0Ab", "a%7Fb", "%E2%80%AEa"]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("control")
    url = f"sqlite:///{folder / 'sightline.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").database()
    upgrade(url)
    tiny_models.add_all(folder / "data" / "models")
    return Settings(data_dir=folder / "data", database_url=url, default_text_encoder="tiny-text")


@pytest.fixture
async def http(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with client(create_app(settings)) as opened:
        yield opened


ASKED = [
    "/v1/jobs/{}", "/v1/jobs/{}/events", "/v1/artifacts/{}", "/v1/artifacts/{}/content", "/v1/datasets/{}",
    "/v1/datasets/{}/samples", "/v1/datasets/{}/samples/{}", "/v1/models/{}", "/v1/label-sets/{}", "/v2/models/{}",
    "/{}", "/v1/jobs?kind={}", "/v1/jobs?after={}", "/v1/datasets?after={}", "/v1/leaderboard?suite={}",
]  # fmt: skip


async def test_what_is_asked_for_or_deleted_by_such_a_name_is_not_there(http: httpx.AsyncClient) -> None:
    for path in ASKED:
        for bad in BAD:
            answer = await http.get(path.replace("{}", bad))
            assert answer.status_code in (200, 400, 404, 405, 422), (path, bad, answer.status_code, answer.text)
            if answer.status_code == 200:
                assert not answer.json().get("data")
    for path in ASKED[:5]:
        for bad in BAD:
            assert (await http.delete(path.replace("{}", bad))).status_code in (404, 405, 422), (path, bad)


async def test_an_artifact_is_called_what_is_left_of_its_name(http: httpx.AsyncClient) -> None:
    for bad in BAD:
        answer = await http.post(f"/v1/artifacts?name=x{bad}y", content=b"x")
        assert answer.status_code == 201, answer.text
        assert answer.json()["name"].isprintable()


async def test_a_data_set_has_no_such_name(http: httpx.AsyncClient) -> None:
    for bad in BAD:
        answer = await http.post(f"/v1/datasets?name={bad}", content=b"PK", headers={"content-type": "application/zip"})
        assert answer.status_code == 422, answer.text
        form = {"file": ("x.zip", b"PK")}
        answer = await http.post("/v1/datasets", data={"name": f"a{httpx.URL('/' + bad).path[1:]}"}, files=form)
        assert answer.status_code == 422, answer.text


NUL = "a\x00b"


JOBS: list[dict[str, object]] = [
    {"kind": NUL},
    {"kind": "batch", "parameters": {"input": f"artifact:{NUL}"}},
    {"kind": "batch", "parameters": {"input": f"dataset:{NUL}"}},
    {"kind": "batch", "parameters": {"input": [], NUL: 1}},
    {"kind": "benchmark", "parameters": {"suite": NUL}},
    {"kind": "benchmark", "parameters": {"suite": f"dataset:{NUL}", "models": [NUL]}},
    {"kind": "finetune", "parameters": {"dataset": NUL, "model": NUL, "name": "x"}},
    {"kind": "pretrain", "parameters": {"dataset": NUL, "name": "x"}},
    {"kind": "promote", "parameters": {"job": NUL}},
]


async def test_a_job_about_such_a_name_is_refused(http: httpx.AsyncClient) -> None:
    for body in JOBS:
        answer = await http.post("/v1/jobs", json=body)
        assert answer.status_code in (404, 422), (body, answer.text)


async def test_ids_of_lines_may_hold_anything(http: httpx.AsyncClient) -> None:
    """They are the caller's own, and come back in the results as they were."""
    lines = [{"custom_id": NUL, "url": "/v1/embeddings", "body": {"input": "x"}}]
    made = await http.post("/v1/jobs", json={"kind": "batch", "parameters": {"input": lines}})
    assert made.status_code == 202, made.text
    kept = (await http.get(f"/v1/jobs/{made.json()['id']}")).json()
    assert kept["state"] in ("queued", "running")


async def test_texts_and_models_hold_no_nul(http: httpx.AsyncClient) -> None:
    bodies = ({"input": NUL}, {"input": ["x", NUL]}, {"input": "x", "model": NUL}, {"input": "x", "user": NUL})
    for body, pointer in zip(bodies, ("/input", "/input/1", "/model", "/user"), strict=True):
        answer = await http.post("/v1/embeddings", json=body)
        assert (answer.status_code, answer.json()["pointer"]) == (422, pointer)


async def test_a_key_that_makes_a_job_once_has_no_control_characters(http: httpx.AsyncClient) -> None:
    for bad in (b"a\tb", b"a b", b"a\x7fb"):
        answer = await http.post("/v1/jobs", json={"kind": "batch"}, headers=[(b"idempotency-key", bad)])
        assert answer.status_code in (400, 422), answer.text


def test_a_key_has_no_such_name(tmp_path: Path) -> None:
    from services.errors import Problem
    from services.storage.database import connect
    from services.storage.keys import KeyStore

    url = f"sqlite:///{tmp_path / 'keys.db'}"
    upgrade(url)
    with pytest.raises(Problem):
        KeyStore(connect(url)).create(NUL, ["infer"])
