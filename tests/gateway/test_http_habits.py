"""What HTTP clients do by habit: HEAD, a slash too many, a byte order mark."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from gateway.app import create_app
from services.settings import Settings
from tests.support.asgi import client


@pytest.fixture
def app(settings: Settings, repository: Path) -> FastAPI:
    return create_app(settings)


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client(app) as opened:
        yield opened


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/v1/models", "/v1/jobs", "/docs", "/v2"]
)
async def test_head_is_answered_as_get_is(http: httpx.AsyncClient, path: str) -> None:
    got, head = await http.get(path), await http.head(path)
    assert head.status_code == got.status_code
    assert head.headers["content-type"] == got.headers["content-type"]


async def test_head_of_content_tells_its_size_and_reads_none_of_it(http: httpx.AsyncClient) -> None:
    made = await http.post("/v1/artifacts", params={"name": "n.txt"}, content=b"12345678")
    path = f"/v1/artifacts/{made.json()['id']}/content"
    head = await http.head(path)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "8", b"")


async def test_what_only_takes_post_still_refuses_head(http: httpx.AsyncClient) -> None:
    assert (await http.head("/v1/classify")).status_code == 405


@pytest.mark.parametrize(
    ("path", "meant"),
    [("/v1/models/", "/v1/models"), ("/v1//embeddings", "/v1/embeddings"), ("/v1/embeddings//", "/v1/embeddings")],
)
async def test_a_slash_too_many_is_named(http: httpx.AsyncClient, path: str, meant: str) -> None:
    answer = await http.get(path)
    assert answer.status_code == 404 and f" {meant}," in answer.json()["remedy"]
    assert "slash" not in (await http.get("/v1/nothing/")).json()["remedy"]


async def test_a_byte_order_mark_before_json_is_passed_over(http: httpx.AsyncClient) -> None:
    body = json.dumps({"model": "tiny-text", "input": "x"}).encode()
    plain = await http.post("/v1/embeddings", content=body, headers={"content-type": "application/json"})
    marked = await http.post(
        "/v1/embeddings", content=b"\xef\xbb\xbf" + body, headers={"content-type": "application/json"}
    )
    assert marked.status_code == plain.status_code and marked.json().get("data") == plain.json().get("data")


async def test_json_in_utf16_is_refused_by_name(http: httpx.AsyncClient) -> None:
    body = json.dumps({"input": "x"}).encode("utf-16")
    answer = await http.post("/v1/embeddings", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400 and "UTF-16" in answer.json()["detail"]


def paths_of(app: FastAPI, method: str) -> list[str]:
    """Every listed path that needs no name in it."""
    return sorted(path for path, item in app.openapi()["paths"].items() if method in item and "{" not in path)


async def test_head_is_answered_wherever_get_is(app: FastAPI, http: httpx.AsyncClient) -> None:
    paths = [*paths_of(app, "get"), "/docs", "/metrics", "/openapi.json"]
    assert {"/v1/models", "/v1/datasets", "/v2/health/live"} <= set(paths)
    for path in paths:
        got, head = await http.get(path), await http.head(path)
        assert head.status_code == got.status_code, path
        assert head.headers.get("content-type") == got.headers.get("content-type"), path
        assert head.content == b"", path


async def test_a_slash_too_many_is_named_on_every_path(app: FastAPI, http: httpx.AsyncClient) -> None:
    listed = sorted({*paths_of(app, "get"), *paths_of(app, "post")})
    assert len(listed) > 10
    for path in listed:
        head, _, tail = path.rpartition("/")
        for wrong in {f"{path}/", f"{path}//", f"{head}//{tail}", f"/{path}"}:
            method = "GET" if path in paths_of(app, "get") else "POST"
            answer = await http.request(method, str(http.base_url).rstrip("/") + wrong)  # whole: //a alone is a host
            assert answer.status_code == 404, wrong
            said = json.dumps(answer.json())
            assert f"{path}," in said or f"{path}." in said or f"{path} " in said, (wrong, said)
