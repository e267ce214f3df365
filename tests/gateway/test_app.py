"""The application as a whole: nothing is open by oversight, the document is complete, its page needs nobody else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from gateway.app import create_app
from gateway.middleware.keys import PUBLIC
from services.errors import Problem
from services.settings import Settings
from services.storage.database import connect, upgrade
from services.storage.keys import KeyStore
from tests.support.asgi import client


@pytest.fixture
def app(settings: Settings, repository: Path) -> FastAPI:
    return create_app(settings)


def operations(app: FastAPI) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in app.openapi()["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def required(operation: dict[str, Any]) -> dict[str, str]:
    """Query parameters without which FastAPI does not even call the route."""
    return {one["name"]: "x" for one in operation.get("parameters", ()) if one["in"] == "query" and one.get("required")}


async def test_every_operation_but_the_public_ones_asks_for_a_key(settings: Settings, repository: Path) -> None:
    app = create_app(settings.model_copy(update={"auth": "required"}))
    async with client(app) as http:
        for method, path, _ in operations(app):
            answer = await http.request(method, re.sub(r"\{\w+\}", "1", path))
            expected = {200} if path in PUBLIC else {401}
            assert answer.status_code in expected, (method, path, answer.text)


async def test_a_path_with_a_slash_too_many_is_not_there_and_leads_nowhere(app: FastAPI) -> None:
    async with client(app) as http:
        for method, path in [("GET", "/v1/models/"), ("POST", "/v1/classify/"), ("GET", "/v2/")]:
            answer = await http.request(method, path)
            assert (answer.status_code, "location" in answer.headers) == (404, False)


def test_the_document_says_that_readiness_can_be_refused(app: FastAPI) -> None:
    for path in ("/readyz", "/v2/health/ready"):
        assert "503" in app.openapi()["paths"][path]["get"]["responses"]


async def test_a_key_without_scopes_for_it_opens_nothing(settings: Settings, repository: Path) -> None:
    """Each route asks for a scope itself: a key that has none of them is turned away by every one."""
    upgrade(settings.database)
    store = KeyStore(connect(settings.database))
    secrets = {scope: store.create(scope, [scope])[1] for scope in ("infer", "jobs")}
    app = create_app(settings)
    async with client(app) as http:
        for method, path, operation in operations(app):
            if path in PUBLIC:
                continue
            url, answers = re.sub(r"\{\w+\}", "1", path), {}
            for scope, secret in secrets.items():
                headers = {"authorization": f"Bearer {secret}"}
                answer = await http.request(method, url, headers=headers, params=required(operation))
                answers[scope] = answer.status_code
            assert 403 in answers.values(), (method, path, answers)


async def test_a_wrong_method_is_told_every_right_one(app: FastAPI) -> None:
    async with client(app) as http:
        answer = await http.put("/v1/jobs")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
        assert (await http.get("/v1/classify")).headers["allow"] == "POST"


async def test_a_server_for_others_is_not_built_without_a_key(settings: Settings) -> None:
    for update in ({"host": "0.0.0.0"}, {"host": "0.0.0.0", "auth": "off"}):
        with pytest.raises(Problem) as caught:
            create_app(settings.model_copy(update=update))
        assert caught.value.code == "exposed-without-key"
    KeyStore(connect(settings.database)).create("first", ["infer"])
    create_app(settings.model_copy(update={"host": "0.0.0.0"}))
    with pytest.raises(Problem):
        create_app(settings.model_copy(update={"host": "0.0.0.0", "auth": "off"}))


async def test_the_document_describes_every_field_and_refusal(app: FastAPI) -> None:
    async with client(app) as http:
        document = (await http.get("/openapi.json")).json()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            where = f"{method} {path}"
            assert operation.get("summary"), where
            assert operation.get("description"), where
            if path not in PUBLIC:
                assert {"401", "403", "429"} <= operation["responses"].keys(), where
            for status, response in operation["responses"].items():
                if path.startswith("/v1") and status >= "400":
                    assert set(response["content"]) == {"application/problem+json"}, where
    schemas = document["components"]["schemas"]
    assert all(schema.get("description") for schema in schemas.values())
    assert "HTTPValidationError" not in schemas
    for name in ("ClassifyBody", "EmbeddingsBody", "Model", "Classified", "Prediction", "ProblemBody"):
        for field, what in schemas[name]["properties"].items():
            assert what.get("description") or "$ref" in str(what), f"{name}.{field} has no description"


async def test_the_page_needs_no_other_host_and_runs_no_other_script(app: FastAPI) -> None:
    async with client(app) as http:
        page = await http.get("/docs")
    assert page.status_code == 200
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page.text)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert policy.count("sha256-") == 2


async def test_document_and_page_can_be_switched_off(settings: Settings) -> None:
    async with client(create_app(settings.model_copy(update={"docs": False}))) as http:
        assert (await http.get("/docs")).status_code == 404
        assert (await http.get("/openapi.json")).status_code == 404


async def test_other_origins_are_let_in_only_when_named(settings: Settings) -> None:
    asking = {"origin": "https://app.example", "access-control-request-method": "POST"}
    async with client(create_app(settings)) as http:
        answer = await http.options("/v1/models", headers=asking)
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
    async with client(create_app(settings.model_copy(update={"cors_origins": ("https://app.example",)}))) as http:
        answer = await http.options("/v1/models", headers=asking)
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        answer = await http.get("/v1/models", headers={"origin": "https://app.example"})
        assert answer.status_code == 200
        assert "X-Request-ID" in answer.headers["access-control-expose-headers"]
        answer = await http.options("/v1/models", headers=asking | {"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in answer.headers


async def test_metrics_can_be_opened_to_a_scraper(settings: Settings) -> None:
    settings = settings.model_copy(update={"auth": "required"})
    async with client(create_app(settings)) as http:
        assert (await http.get("/metrics")).status_code == 401
    async with client(create_app(settings.model_copy(update={"metrics_open": True}))) as http:
        assert b"sightline_build_info" in (await http.get("/metrics")).content
