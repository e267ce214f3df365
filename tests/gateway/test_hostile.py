"""A real server answers every hostile request with the right refusal, stays up, and does not grow."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest

from gateway.problems import TYPE_BASE
from services.settings import Settings
from services.storage.database import connect, upgrade
from services.storage.keys import KeyStore
from tests.support import tiny_models
from tests.support.hostile import Case, cases, classify
from tests.support.server import Server, serving

MIB = 1024 * 1024
CASES = cases()
GOOD = Case("good", 200, "", classify())


@pytest.fixture(scope="module")
def keys() -> dict[str, str]:
    return {}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, str]) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hostile")
    settings = Settings(
        data_dir=folder / "data",
        log_level="warning",
        body_timeout=1.0,
        default_classifier="tiny-classifier",
        default_text_encoder="tiny-text",
    )
    tiny_models.add_all(settings.models_dir)
    upgrade(settings.database)
    store = KeyStore(connect(settings.database))
    keys |= {scope: store.create(scope, [scope])[1] for scope in ("infer", "admin")}
    with serving(settings, folder) as server:
        yield server


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as http:
        yield http


@pytest.fixture(scope="module", autouse=True)
def baseline(server: Server, http: httpx.Client, keys: dict[str, str]) -> int:
    """Bytes in memory before the first hostile request."""
    for _ in range(20):
        assert send(http, keys, GOOD).status_code == 200
    return server.resident()


def send(http: httpx.Client, keys: dict[str, str], case: Case) -> httpx.Response:
    headers = dict(case.headers)
    if case.type is not None:
        headers["Content-Type"] = case.type
    if case.key is not None:
        headers["Authorization"] = f"Bearer {keys.get(case.key, case.key)}"
    content = case.body if isinstance(case.body, bytes) else case.body()
    # A raw target: httpx would tidy `..` away before the server sees it.
    url = httpx.URL(http.base_url, raw_path=case.path.encode())
    return http.send(http.build_request(case.method, url, headers=headers, content=content))


def check(case: Case, answer: httpx.Response) -> None:
    said = (case.name, answer.status_code, answer.text[:500])
    assert answer.status_code == case.status, said
    assert answer.headers["content-type"] == "application/problem+json", said
    body = answer.json()
    assert body["error"]["code"] == case.code, said
    assert body["type"] == TYPE_BASE + case.code, said
    assert body["status"] == case.status, said
    assert body["title"] and body["detail"], said
    assert body["request_id"] == answer.headers["x-request-id"], said
    assert "Traceback" not in answer.text and ".py" not in answer.text, said
    if case.pointer is not None:
        assert body["pointer"] == case.pointer, said


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refusal(server: Server, http: httpx.Client, keys: dict[str, str], case: Case) -> None:
    check(case, send(http, keys, case))
    assert server.workers["w0"].poll() is None


def test_afterwards_it_still_answers_and_has_not_grown(
    server: Server, http: httpx.Client, keys: dict[str, str], baseline: int
) -> None:
    pid = server.pid
    for case in CASES:
        if case.name != "slow body" and case.path != "/v1/embeddings":
            check(case, send(http, keys, case))
    assert send(http, keys, GOOD).status_code == 200
    assert server.pid == pid and server.workers["w0"].poll() is None
    grown = server.resident() - baseline
    assert grown <= 64 * MIB, f"{grown / MIB:.1f} MiB"
    assert "Unhandled error" not in server.said()


def test_a_bomb_is_refused_from_its_header(http: httpx.Client, keys: dict[str, str]) -> None:
    """10 ms on a quiet machine; here only that nothing of the picture was decoded, which would take seconds."""
    bomb = next(case for case in CASES if case.name.startswith("169"))
    begin = time.monotonic()
    for _ in range(5):
        check(bomb, send(http, keys, bomb))
    assert time.monotonic() - begin < 2.5
