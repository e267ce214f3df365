"""Keys open what their scopes say, a keyless server stays on this machine, and a revoked key stops working soon."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response

from gateway import problems
from gateway.middleware import keys as module
from gateway.middleware.keys import PUBLIC, KeyGate, Keys, allow, is_loopback
from gateway.middleware.limits import RateLimiter
from gateway.request.request_context import ApiScope, RequestContext
from tests.support.asgi import Answered, call


@dataclass(frozen=True)
class Key:
    id: str
    scopes: tuple[str, ...]
    rate: float | None = None
    job_id: str | None = None
    sees_all: bool = False


@dataclass
class Store:
    """A key store in memory that counts how often it is asked."""

    keys: dict[str, Key] = field(default_factory=dict)
    asked: int = 0

    def authenticate(self, secret: str) -> Key | None:
        self.asked += 1
        return self.keys.get(secret)

    def any(self) -> bool:
        return bool(self.keys)


class Gate:
    """A small application behind a gate: one route a scope, and a public one."""

    def __init__(
        self,
        folder: Path,
        store: Store,
        *,
        auth: Literal["auto", "required", "off"] = "auto",
        exposed: bool = False,
        rate: float = 0,
        origins: tuple[str, ...] = (),
        metrics_token: str | None = None,
    ) -> None:
        app = FastAPI()
        problems.install(app)

        def add(path: str, scope: ApiScope | None) -> None:
            async def answer(request: Request) -> Response:
                who = allow(request, scope).key_id if scope else "public"
                return Response(who)

            app.get(path)(answer)

        add("/v1/infer", "infer")
        add("/v1/jobs", "jobs")
        add("/v1/admin", "admin")
        add("/metrics", "metrics")
        add("/healthz", None)
        limiter = RateLimiter(folder / "limits", rate=rate, burst=2)
        keys = Keys(store, auth, exposed=exposed, metrics_token=metrics_token)
        self.gate = KeyGate(app, keys=keys, limiter=limiter, public=PUBLIC, origins=origins)

    async def get(self, path: str = "/v1/infer", **headers: str) -> Answered:
        async def begin(scope, receive, send):  # type: ignore[no-untyped-def]
            request_context = RequestContext.begin(scope, 30)
            answered.append(request_context)
            await self.gate(scope, receive, send)

        answered: list[RequestContext] = []
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        result = await call(begin, "GET", path, headers=given)
        result.events[0]["headers"] = [*result.events[0]["headers"], *answered[0].headers]
        return result


def code(answered: Answered) -> str:
    return str(answered.json()["error"]["code"])


@pytest.fixture
def store() -> Store:
    return Store({"s1": Key("k1", ("infer",)), "s2": Key("k2", ("admin",)), "s3": Key("k3", ("jobs",), rate=1.0)})


@pytest.mark.parametrize(
    ("path", "secret", "status"),
    [
        ("/v1/infer", "s1", 200),
        ("/v1/jobs", "s1", 403),
        ("/v1/admin", "s1", 403),
        ("/v1/infer", "s2", 200),
        ("/v1/jobs", "s2", 200),
        ("/v1/admin", "s2", 200),
        ("/v1/infer", "s3", 403),
        ("/v1/jobs", "s3", 200),
    ],
)
async def test_scopes_open_what_they_say(tmp_path: Path, store: Store, path: str, secret: str, status: int) -> None:
    gate = Gate(tmp_path, store)
    answered = await gate.get(path, authorization=f"Bearer {secret}")
    assert answered.status == status
    assert (await gate.get(path, x_api_key=secret)).status == status
    if status == 403:
        assert code(answered) == "scope-missing"
        assert path.rsplit("/", 1)[1] in answered.json()["detail"]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, "key-missing"),
        ({"authorization": "Bearer nonsense"}, "key-invalid"),
        ({"authorization": "Bearer "}, "key-malformed"),
        ({"authorization": "Basic czE6"}, "key-malformed"),
        ({"authorization": "s1"}, "key-malformed"),
        ({"x_api_key": "S1"}, "key-invalid"),
        ({"x_api_key": ""}, "key-invalid"),
        ({"x_api_key": "\xff\xfe"}, "key-invalid"),
        ({"authorization": "Bearer s1 s1"}, "key-invalid"),
    ],
)
async def test_without_a_right_key_nothing_opens(
    tmp_path: Path, store: Store, headers: dict[str, str], expected: str
) -> None:
    gate = Gate(tmp_path, store)
    answered = await gate.get(**headers)
    assert (answered.status, code(answered)) == (401, expected)
    assert answered.headers["www-authenticate"].startswith("Bearer")
    assert (await gate.get("/healthz", **headers)).status == 200


async def test_an_unknown_path_tells_nothing_to_strangers(tmp_path: Path, store: Store) -> None:
    assert (await Gate(tmp_path, store).get("/v1/secret-feature")).status == 401


async def test_a_keyless_server_serves_this_machine(tmp_path: Path) -> None:
    gate = Gate(tmp_path, Store())
    for host in ("localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:80", "127.8.9.1", "api.localhost"):
        assert (await gate.get("/v1/admin", host=host)).body == b"anonymous", host
    # Clients that always send a key are welcome too.
    assert (await gate.get("/v1/infer", authorization="Bearer whatever")).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "10.0.0.1", "", "[::2]", "127.0.0.1.nip.io"]
)
async def test_a_keyless_server_answers_to_no_other_name(tmp_path: Path, host: str) -> None:
    answered = await Gate(tmp_path, Store()).get(host=host)
    assert (answered.status, code(answered)) == (403, "host-refused")


async def test_a_page_of_another_site_cannot_call_a_keyless_server(tmp_path: Path) -> None:
    gate = Gate(tmp_path, Store(), origins=("https://app.example",))
    for origin in ("https://evil.example", "null", "http://localhost:9999"):
        answered = await gate.get(host="localhost:8000", origin=origin)
        assert (answered.status, code(answered)) == (403, "origin-refused"), origin
    assert (await gate.get(host="localhost:8000", origin="http://localhost:8000")).status == 200
    assert (await gate.get(host="localhost:8000", origin="https://app.example")).status == 200


async def test_an_exposed_server_asks_for_a_key_even_when_there_is_none(tmp_path: Path) -> None:
    assert (await Gate(tmp_path, Store(), exposed=True).get()).status == 401
    assert (await Gate(tmp_path, Store(), auth="required").get()).status == 401


async def test_the_first_key_closes_the_server_and_revoking_it_does_not_open_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store()
    monkeypatch.setattr(module, "KEY_SECONDS", 0.0)
    gate = Gate(tmp_path, store)
    assert (await gate.get()).status == 200
    store.keys["s1"] = Key("k1", ("infer",))
    assert (await gate.get()).status == 401
    assert (await gate.get(x_api_key="s1")).status == 200
    store.keys.clear()
    assert (await gate.get()).status == 401
    assert (await gate.get(x_api_key="s1")).status == 401


async def test_a_job_is_known_as_one_even_where_no_key_is_asked_for(tmp_path: Path) -> None:
    gate = Gate(tmp_path, Store())
    assert (await gate.get(authorization="Bearer sl_job.gone.1.x")).status == 401
    store = Store({"sl_job.j1.1.x": Key("anonymous", ("infer",), rate=0.0, job_id="j1")})
    keys = Keys(store, "off", exposed=False)
    caller = await keys.identify({b"authorization": b"Bearer sl_job.j1.1.x"})
    assert caller is not None and caller.background
    assert (
        RequestContext({}, "r", 0.0, 30.0, caller=caller).options().priority
        > RequestContext({}, "r", 0.0, 30.0).options().priority
    )


async def test_the_token_for_metrics_opens_metrics_and_nothing_else(tmp_path: Path, store: Store) -> None:
    gate = Gate(tmp_path, store, auth="required", metrics_token="m" * 16)
    scrape = "Bearer " + "m" * 16
    assert (await gate.get("/metrics", authorization=scrape)).status == 200
    assert (await gate.get("/metrics", x_api_key="s2")).status == 200  # admin
    assert (await gate.get("/metrics", x_api_key="s1")).status == 403
    assert (await gate.get("/metrics")).status == 401
    assert (await gate.get("/v1/infer", authorization=scrape)).status == 403
    assert (await gate.get("/v1/admin", authorization=scrape)).status == 403


async def test_answers_of_the_store_are_remembered_only_for_seconds(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: clock)
    gate = Gate(tmp_path, store)
    for _ in range(5):
        assert (await gate.get(x_api_key="s1")).status == 200
    assert store.asked == 1
    del store.keys["s1"]
    clock += 5.0
    assert (await gate.get(x_api_key="s1")).status == 401


async def test_each_key_is_held_to_its_rate(tmp_path: Path, store: Store) -> None:
    gate = Gate(tmp_path, store)
    answers = [await gate.get("/v1/jobs", x_api_key="s3") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[0].headers["ratelimit-limit"] == "2"
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["1", "0", "0"]
    assert code(answers[2]) == "rate-limited"
    assert int(answers[2].headers["retry-after"]) >= 1
    assert all([(await gate.get(x_api_key="s1")).status == 200 for _ in range(5)])


def test_loopback_is_recognised() -> None:
    assert all(map(is_loopback, ["localhost", "LOCALHOST.", "127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.example", ""]))
