"""The jobs API: submitted once, seen by its owner alone, watched without a gap, refused with the field named."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import insert

from gateway.app import create_app
from gateway.context import Context
from services.jobs.services import JobServices
from services.settings import Settings
from services.storage.database import writing
from services.storage.ids import new_id
from services.storage.keys import KeyStore
from services.storage.tables import jobs
from tests.support.asgi import call, client
from tests.support.jobs import run_job


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    limited = settings.model_copy(
        update={
            "job_modules": ("tests.support.job_kinds",),
            "max_jobs_queued": 5,
            "artifact_quota_bytes": 200_000,
            "max_upload_bytes": 150_000,
            "job_heartbeat": 0.1,
        }
    )
    return create_app(limited)


@pytest.fixture
def services(app: FastAPI) -> JobServices:
    context: Context = app.state.context
    return context.jobs


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client(app) as opened:
        yield opened


def body(kind: str = "count", /, **parameters: Any) -> dict[str, Any]:
    return {"kind": kind, "parameters": parameters}


async def run(services: JobServices, job_id: str) -> str:
    return await asyncio.to_thread(run_job, services, job_id)


async def test_a_job_is_accepted_run_and_fetched(http: httpx.AsyncClient, services: JobServices) -> None:
    accepted = await http.post("/v1/jobs", json=body(up_to=4) | {"priority": 3})
    assert accepted.status_code == 202
    job = accepted.json()
    assert accepted.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["object"], job["state"], job["attempt"], job["priority"]) == ("job", "queued", 0, 3)
    assert job["parameters"]["up_to"] == 4 and job["parameters"]["checkpoint_every"] == 3
    assert await run(services, job["id"]) == "succeeded"
    done = (await http.get(accepted.headers["location"])).json()
    assert (done["state"], done["result"], done["error"]) == ("succeeded", {"total": 6, "counted": 4}, None)
    assert done["created_at"] <= done["started_at"] <= done["finished_at"]
    [made] = done["artifacts"]
    assert made["name"] == "numbers.txt" and made["size"] == 8
    content = await http.get(made["url"])
    assert content.text == "0\n1\n2\n3\n"
    assert hashlib.sha256(content.content).hexdigest() == made["sha256"]
    again = await http.get(f"/v1/artifacts/{made['id']}/content", headers={"range": "bytes=2-5"})
    assert (again.status_code, again.text) == (206, "1\n2\n")
    assert again.headers["content-range"] == "bytes 2-5/8"


@pytest.mark.parametrize(
    ("asked", "status", "content"),
    [
        ("bytes=0-0", 206, "0"),
        ("bytes=-3", 206, "\n3\n"),
        ("bytes=6-", 206, "3\n"),
        ("bytes=6-999", 206, "3\n"),
        ("bytes=8-", 416, None),
        ("bytes=5-2", 200, "0\n1\n2\n3\n"),
        ("bytes=0-1,4-5", 200, "0\n1\n2\n3\n"),
        ("lines=1-2", 200, "0\n1\n2\n3\n"),
    ],
)
async def test_ranges_are_served(
    http: httpx.AsyncClient, services: JobServices, asked: str, status: int, content: str | None
) -> None:
    job = (await http.post("/v1/jobs", json=body(up_to=4))).json()
    await run(services, job["id"])
    answer = await http.get(f"/v1/jobs/{job['id']}/artifacts/numbers.txt", headers={"range": asked})
    assert answer.status_code == status
    if content is not None:
        assert answer.text == content
    else:
        assert answer.headers["content-range"] == "bytes */8"
        assert answer.json()["status"] == 416
    tag = (await http.get(f"/v1/jobs/{job['id']}/artifacts/numbers.txt")).headers["etag"]
    kept = await http.get(f"/v1/jobs/{job['id']}/artifacts/numbers.txt", headers={"if-none-match": tag})
    assert kept.status_code == 304


async def test_an_idempotency_key_stands_for_one_job(http: httpx.AsyncClient) -> None:
    key = {"idempotency-key": "order-1"}
    first = await http.post("/v1/jobs", json=body(up_to=4), headers=key)
    again = await http.post("/v1/jobs", json=body(up_to=4), headers=key)
    assert again.status_code == 202 and again.json()["id"] == first.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    other = await http.post("/v1/jobs", json=body(up_to=5), headers=key)
    assert other.status_code == 409 and other.json()["error"]["code"] == "idempotency-conflict"
    together = await asyncio.gather(
        *(http.post("/v1/jobs", json=body(up_to=6), headers={"idempotency-key": "order-2"}) for _ in range(5))
    )
    assert len({answer.json()["id"] for answer in together}) == 1
    assert len((await http.get("/v1/jobs")).json()["data"]) == 2


async def test_a_repeated_submission_is_answered_though_its_input_is_gone(http: httpx.AsyncClient) -> None:
    sent = (await http.post("/v1/artifacts", content=b"{}")).json()
    order, key = body("batch", input=f"artifact:{sent['id']}"), {"idempotency-key": "order-1"}
    first = await http.post("/v1/jobs", json=order, headers=key)
    await http.delete(f"/v1/artifacts/{sent['id']}")
    again = await http.post("/v1/jobs", json=order, headers=key)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert (await http.post("/v1/jobs", json=order)).status_code == 404


def benchmark(**fields: Any) -> dict[str, Any]:
    return {"kind": "benchmark", "parameters": {"models": ["a-model"], **fields}}


REFUSED: list[tuple[str, Any, int, str, str | None]] = [
    ("unknown kind", {"kind": "dance"}, 422, "job-kind-unknown", "/kind"),
    ("no kind", {"parameters": {}}, 422, "field-invalid", "/kind"),
    ("unknown field", body() | {"colour": 1}, 422, "field-invalid", "/colour"),
    ("wrong parameter", body(up_to="4"), 422, "field-invalid", "/parameters/up_to"),
    ("unknown parameter", body(upto=4), 422, "field-invalid", "/parameters/upto"),
    ("one of several forms", benchmark(shots=[0]), 422, "field-invalid", "/parameters/shots/0"),
    ("inside a form", benchmark(protocols=[{"name": "../x"}]), 422, "field-invalid", "/parameters/protocols/0/name"),
    ("negative", body(up_to=-1), 422, "field-invalid", "/parameters/up_to"),
    ("parameters no object", {"kind": "count", "parameters": []}, 422, "field-invalid", "/parameters"),
    ("priority", body() | {"priority": 10}, 422, "field-invalid", "/priority"),
    ("array", [1], 422, "field-invalid", None),
    ("NUL", {"kind": "a\x00"}, 422, "field-invalid", "/kind"),
    ("big", body(marks="x" * 9_000_000), 413, "parameters-too-large", "/parameters"),
    ("batch without lines", body("batch", input=[]), 422, "batch-input", "/parameters/input"),
    ("batch of nothing known", body("batch", input="https://x"), 422, "batch-input", "/parameters/input"),
    (
        "batch of a missing file",
        body("batch", input="artifact:art_01J9Z3N0V4Q4S3D6B8W2X5Y7ZA"),
        404,
        "artifact-not-found",
        "/parameters/input",
    ),
    (
        "short webhook secret",
        body() | {"webhook": {"url": "https://example.com", "secret": "short"}},
        422,
        "field-invalid",
        "/webhook/secret",
    ),
    *(
        (
            f"webhook to {url}",
            body() | {"webhook": {"url": url, "secret": "0123456789abcdef"}},
            422,
            code,
            "/webhook/url",
        )
        for url, code in [
            ("https://127.0.0.1/x", "webhook-blocked"),
            ("https://localhost/x", "webhook-blocked"),
            ("https://[::1]/x", "webhook-blocked"),
            ("https://169.254.169.254/latest", "webhook-blocked"),
            ("https://10.0.0.8/", "webhook-blocked"),
            ("https://0x7f.1/", "webhook-blocked"),
            ("http://93.184.216.34/", "webhook-blocked"),
            ("ftp://93.184.216.34/", "webhook-blocked"),
            ("https://user:pw@93.184.216.34/", "webhook-invalid"),
            ("https://", "webhook-invalid"),
            ("not a url", "webhook-invalid"),
        ]
    ),
]


async def test_what_is_wrong_is_named(http: httpx.AsyncClient) -> None:
    for what, sent, status, code, pointer in REFUSED:
        answer = await http.post("/v1/jobs", json=sent)
        problem = answer.json()
        told = (what, answer.status_code, problem["error"]["code"], problem.get("pointer"))
        assert told == (what, status, code, pointer)
    assert (await http.get("/v1/jobs")).json()["data"] == []


async def test_a_malformed_request_is_refused(http: httpx.AsyncClient) -> None:
    broken = await http.post("/v1/jobs", content=b'{"kind":', headers={"content-type": "application/json"})
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, "json-malformed")
    typed = await http.post("/v1/jobs", content=b"kind=count", headers={"content-type": "text/plain"})
    assert typed.status_code == 415
    keyed = await http.post("/v1/jobs", json=body(), headers={"idempotency-key": "k" * 256})
    assert (keyed.status_code, keyed.json()["error"]["code"]) == (400, "idempotency-key-malformed")


async def test_the_quota_of_waiting_jobs_is_named(http: httpx.AsyncClient) -> None:
    for _ in range(5):
        assert (await http.post("/v1/jobs", json=body())).status_code == 202
    refused = await http.post("/v1/jobs", json=body())
    assert refused.status_code == 429 and "max_jobs_queued" in refused.json()["detail"]
    assert int(refused.headers["retry-after"]) > 0
    [first, *_] = (await http.get("/v1/jobs")).json()["data"]
    await http.post(f"/v1/jobs/{first['id']}/cancel")
    assert (await http.post("/v1/jobs", json=body())).status_code == 202
    again = await http.post(f"/v1/jobs/{first['id']}/retry")  # it would wait like any other
    assert (again.status_code, again.json()["error"]["code"]) == (429, "too-many-jobs")


async def test_jobs_end_are_retried_and_deleted_in_order(http: httpx.AsyncClient, services: JobServices) -> None:
    job = (await http.post("/v1/jobs", json=body())).json()
    at = f"/v1/jobs/{job['id']}"
    early = await http.delete(at)
    assert (early.status_code, early.json()["error"]["code"]) == (409, "job-not-finished")
    assert (await http.post(f"{at}/retry")).json()["error"]["code"] == "job-not-retriable"
    assert (await http.post(f"{at}/cancel")).json()["state"] == "cancelled"
    twice = await http.post(f"{at}/cancel")
    assert (twice.status_code, twice.json()["error"]["code"]) == (409, "job-finished")
    assert (await http.post(f"{at}/retry")).json()["state"] == "queued"
    assert await run(services, job["id"]) == "succeeded"
    assert (await http.post(f"{at}/retry")).status_code == 409
    assert (await http.delete(at)).json() == {"id": job["id"], "object": "job", "deleted": True}
    assert (await http.get(at)).status_code == 404
    assert (await http.get("/v1/artifacts")).json()["data"] == []
    assert not [path for path in (services.settings.data_dir / "artifacts").rglob("*") if path.is_file()]


async def test_a_failed_job_shows_its_problem(http: httpx.AsyncClient, services: JobServices) -> None:
    job = (await http.post("/v1/jobs", json=body("fail", how="problem"))).json()
    await run(services, job["id"])
    error = (await http.get(f"/v1/jobs/{job['id']}")).json()["error"]
    assert error == {
        "type": "https://sightline.dev/problems/labels-missing",
        "status": 422,
        "code": "labels-missing",
        "title": "Labels are missing",
        "detail": "There are none.",
        "pointer": "/labels",
    }


async def test_metrics_count_jobs_by_kind_and_state(http: httpx.AsyncClient, services: JobServices) -> None:
    ids = [(await http.post("/v1/jobs", json=body())).json()["id"] for _ in range(3)]
    await run(services, ids[0])
    await http.delete(f"/v1/jobs/{ids[0]}")
    told = (await http.get("/metrics")).text.splitlines()
    for line in (
        'sightline_jobs{kind="count",state="queued"} 2.0',
        'sightline_job_queue_length{queue="default"} 2.0',
        'sightline_job_queue_length{queue="batch"} 0.0',
        'sightline_job_queue_running{queue="default"} 0.0',
        'sightline_jobs_ended_total{kind="count",state="succeeded"} 1.0',
        'sightline_job_run_seconds_count{kind="count",state="succeeded"} 1.0',
        "sightline_job_database_up 1.0",
    ):
        assert line in told
    assert any(line.startswith('sightline_job_queue_oldest_seconds{queue="default"} ') for line in told)


async def test_pages_hold_every_job_once(http: httpx.AsyncClient, services: JobServices) -> None:
    ids = []
    for _ in range(5):
        ids.append((await http.post("/v1/jobs", json=body())).json()["id"])
    seen: list[str] = []
    page: dict[str, Any] = {"has_more": True, "last_id": None}
    while page["has_more"]:
        query = {"limit": 2} | ({"after": page["last_id"]} if page["last_id"] else {})
        page = (await http.get("/v1/jobs", params=query)).json()
        seen += [job["id"] for job in page["data"]]
    assert seen == ids[::-1]
    await run(services, ids[0])
    of_state = (await http.get("/v1/jobs", params={"state": ["succeeded", "failed"]})).json()["data"]
    assert [job["id"] for job in of_state] == [ids[0]] and of_state[0]["artifacts"][0]["name"] == "numbers.txt"
    assert "parameters" not in of_state[0]
    assert (await http.get("/v1/jobs", params={"kind": "fail"})).json()["data"] == []
    assert (await http.get("/v1/jobs", params={"state": "dancing"})).status_code == 422


async def test_ten_thousand_waiting_jobs_are_listed_by_pages_without_reading_them_all(
    http: httpx.AsyncClient, services: JobServices
) -> None:
    now = time.time()
    row = {
        "kind": "count", "queue": "default", "owner": "anonymous", "state": "queued", "priority": 0,
        "parameters": {"x": "y" * 1000}, "fingerprint": "f", "attempt": 0, "fence": 0, "beat": 0, "deaths": 0,
        "cancel_requested": False, "dispatched": True, "progress": {}, "event_seq": 0, "created_at": now,
        "queued_at": now, "wait": None,
    }  # fmt: skip
    del row["wait"]
    with writing(services.engine) as connection:
        connection.execute(insert(jobs), [row | {"id": new_id("job")} for _ in range(10_000)])
    best = 1.0
    after = None
    for _ in range(5):
        begin = time.perf_counter()
        page = (await http.get("/v1/jobs", params={"limit": 50} | ({"after": after} if after else {}))).json()
        best = min(best, time.perf_counter() - begin)
        assert len(page["data"]) == 50 and page["has_more"]
        after = page["last_id"]
    assert best < 0.25  # a page takes a few milliseconds; reading all rows takes far longer than this


class TestOwners:
    @pytest.fixture
    def secrets(self, services: JobServices) -> dict[str, str]:
        keys = KeyStore(services.engine)
        return {
            name: f"Bearer {keys.create(name, scopes)[1]}"
            for name, scopes in {"a": ["jobs"], "b": ["jobs"], "infer": ["infer"]}.items()
        }

    async def test_another_key_sees_nothing_of_a_job(
        self, secrets: dict[str, str], http: httpx.AsyncClient, services: JobServices
    ) -> None:
        a, b = ({"authorization": secrets[name]} for name in "ab")
        job = (await http.post("/v1/jobs", json=body(up_to=2), headers=a)).json()
        await run(services, job["id"])
        [made] = (await http.get(f"/v1/jobs/{job['id']}", headers=a)).json()["artifacts"]
        at = f"/v1/jobs/{job['id']}"
        for method, path in [
            ("GET", at),
            ("DELETE", at),
            ("POST", f"{at}/cancel"),
            ("POST", f"{at}/retry"),
            ("GET", f"{at}/events"),
            ("GET", f"{at}/webhooks"),
            ("GET", made["url"]),
            ("GET", f"/v1/artifacts/{made['id']}"),
            ("GET", f"/v1/artifacts/{made['id']}/content"),
            ("DELETE", f"/v1/artifacts/{made['id']}"),
        ]:
            answer = await http.request(method, path, headers=b)
            assert (method, path, answer.status_code) == (method, path, 404)
        assert (await http.get("/v1/jobs", headers=b)).json()["data"] == []
        assert (await http.get("/v1/artifacts", headers=b)).json()["data"] == []
        batch = await http.post("/v1/jobs", json=body("batch", input=f"artifact:{made['id']}"), headers=b)
        assert batch.status_code == 404 and batch.json()["pointer"] == "/parameters/input"
        assert (await http.get(made["url"], headers=a)).status_code == 200

    async def test_one_idempotency_key_of_two_owners_is_two_jobs(
        self, secrets: dict[str, str], http: httpx.AsyncClient
    ) -> None:
        ids = set()
        for name in "ab":
            headers = {"authorization": secrets[name], "idempotency-key": "same"}
            ids.add((await http.post("/v1/jobs", json=body(), headers=headers)).json()["id"])
        assert len(ids) == 2

    async def test_the_scope_jobs_is_needed(self, secrets: dict[str, str], http: httpx.AsyncClient) -> None:
        for method, path in [("POST", "/v1/jobs"), ("GET", "/v1/jobs"), ("POST", "/v1/artifacts")]:
            answer = await http.request(method, path, headers={"authorization": secrets["infer"]}, json={})
            assert answer.status_code == 403
        assert (await http.get("/v1/jobs")).status_code == 401


def parse(stream: str) -> list[tuple[int, str]]:
    """Ids and names of the events in a stream's text."""
    found = []
    for block in stream.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if "id" in lines:
            found.append((int(lines["id"]), lines["event"]))
    return found


@pytest.fixture
def running(services: JobServices) -> Iterator[list[threading.Thread]]:
    threads: list[threading.Thread] = []
    yield threads
    for thread in threads:
        thread.join(10)


async def test_a_stream_tells_everything_until_the_end_and_goes_on_where_it_stopped(
    http: httpx.AsyncClient, services: JobServices, running: list[threading.Thread]
) -> None:
    job = (await http.post("/v1/jobs", json=body(up_to=8, pause=0.1))).json()
    running.append(threading.Thread(target=run_job, args=(services, job["id"])))
    running[0].start()
    whole = await http.get(f"/v1/jobs/{job['id']}/events")
    assert whole.headers["content-type"].startswith("text/event-stream")
    told = parse(whole.text)
    assert [number for number, _ in told] == list(range(1, len(told) + 1))
    assert [name for _, name in told if name == "state"] == ["state"] * 3
    assert {"progress", "metric"} <= {name for _, name in told}
    assert '"state":"succeeded"' in whole.text.splitlines()[-2]
    rest = await http.get(f"/v1/jobs/{job['id']}/events", headers={"last-event-id": str(told[2][0])})
    assert parse(rest.text) == told[3:]
    nothing = await http.get(f"/v1/jobs/{job['id']}/events", headers={"last-event-id": str(told[-1][0])})
    assert nothing.status_code == 204
    listed = (await http.get(f"/v1/jobs/{job['id']}/events", headers={"accept": "application/json"})).json()
    assert [(event["id"], event["event"]) for event in listed["data"]] == told


async def test_a_silent_stream_gives_signs_of_life(
    app: FastAPI, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.stream.AWAKE_SECONDS", 1.0)
    job = (await http.post("/v1/jobs", json=body())).json()
    watching = asyncio.create_task(http.get(f"/v1/jobs/{job['id']}/events"))
    await asyncio.sleep(2.5)
    app.state.context.lifecycle.draining = True
    text = (await asyncio.wait_for(watching, 5)).text
    assert text.count("\n\n: alive\n\n") >= 1


async def test_a_stream_ends_when_the_process_drains(app: FastAPI, http: httpx.AsyncClient) -> None:
    job = (await http.post("/v1/jobs", json=body())).json()
    watching = asyncio.create_task(http.get(f"/v1/jobs/{job['id']}/events"))
    await asyncio.sleep(0.3)
    app.state.context.lifecycle.draining = True
    answer = await asyncio.wait_for(watching, 5)
    assert parse(answer.text) == [(1, "state")]


class TestUploads:
    async def test_content_comes_back_as_it_went_in(self, http: httpx.AsyncClient) -> None:
        data = bytes(range(256)) * 300
        raw = await http.post("/v1/artifacts?name=a.bin", content=data)
        assert raw.status_code == 201
        form = await http.post("/v1/artifacts", files={"file": ("../x/b.jsonl", data, "application/jsonl")})
        assert form.json()["name"] == "b.jsonl" and form.json()["media_type"] == "application/jsonl"
        assert form.json()["sha256"] == hashlib.sha256(data).hexdigest() == raw.json()["sha256"]
        for made in (raw.json(), form.json()):
            content = await http.get(made["url"])
            assert content.content == data
            assert content.headers["content-disposition"].startswith("attachment")
        assert (await http.get(f"/v1/artifacts/{raw.json()['id']}")).json() == raw.json()
        listed = (await http.get("/v1/artifacts?limit=1")).json()
        assert listed["has_more"] and listed["data"] == [form.json()]
        await http.delete(f"/v1/artifacts/{raw.json()['id']}")
        assert (await http.get(form.json()["url"])).content == data  # the same bytes, still named once

    async def test_what_does_not_fit_is_refused_before_it_is_read(self, app: FastAPI, http: httpx.AsyncClient) -> None:
        refused = await call(app, path="/v1/artifacts", headers={"content-length": "50000000"}, leave=True)
        assert refused.status == 413  # though nothing was ever sent
        assert (await http.post("/v1/artifacts", content=b"x" * 149_000)).status_code == 201
        over = await http.post("/v1/artifacts", content=b"x" * 120_000)
        assert (over.status_code, over.json()["error"]["code"]) == (413, "artifact-quota")

    async def test_a_body_that_lies_about_its_length_leaves_nothing(
        self, http: httpx.AsyncClient, services: JobServices
    ) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(30):
                yield b"x" * 10_000

        refused = await http.post("/v1/artifacts", content=chunks())
        assert refused.status_code == 413
        assert (await http.get("/v1/artifacts")).json()["data"] == []
        left = [p for f in ("artifacts", "scratch") for p in (services.settings.data_dir / f).rglob("*") if p.is_file()]
        assert left == []

    @pytest.mark.parametrize(
        ("content", "kind"),
        [
            (b"", "application/octet-stream"),
            (b"--b\r\n", "multipart/form-data; boundary=b"),
            (
                b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--b--\r\n',
                "multipart/form-data; boundary=b",
            ),
            (b"x", "multipart/form-data"),
        ],
    )
    async def test_nonsense_is_refused(self, http: httpx.AsyncClient, content: bytes, kind: str) -> None:
        answer = await http.post("/v1/artifacts", content=content, headers={"content-type": kind})
        assert answer.status_code == 400


def test_the_database_being_locked_is_a_503(app: FastAPI, settings: Settings, tmp_path: Path) -> None:
    import sqlite3

    from services.storage import database

    engine = database.connect(settings.database, busy_seconds=0.2)
    locked = JobServices.over(app.state.context.settings, engine)
    object.__setattr__(app.state.context, "jobs", locked)
    holder = sqlite3.connect(settings.data_dir / "sightline.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")

    async def submit() -> httpx.Response:
        async with client(app) as http:
            return await http.post("/v1/jobs", json=body())

    try:
        answer = asyncio.run(submit())
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database-unavailable")
    assert "retry-after" in answer.headers
