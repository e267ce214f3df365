"""A batch answers every line once and in order, whatever lines hold, whatever the gateway does."""

from __future__ import annotations

import asyncio
import gzip
import resource
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest

from services.batch import kind as batch
from services.batch import lines as batch_lines
from services.batch import run as batch_run
from services.errors import Problem
from services.jobs.records import Job, Order
from services.jobs.services import JobServices
from services.storage.keys import KeyStore
from tests.support.jobs import run_job

OWNER = "anonymous"


@dataclass
class Gateway:
    """A stand-in that answers what it was sent, and does what a test tells it to."""

    url: str = ""
    seen: list[dict[str, Any]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    busy: int = 0
    drop: set[int] = field(default_factory=set)
    pause: float = 0.0
    fill: str = ""
    first: threading.Event | None = None
    """What the answer to number 0 waits for."""
    most: int = 0
    _now: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    told = Gateway()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def do_GET(self) -> None:
            self._answer(200, {"status": "ok"})

        def do_POST(self) -> None:
            body = orjson.loads(self.rfile.read(int(self.headers["content-length"])))
            with told.lock:
                told._now += 1
                told.most = max(told.most, told._now)
                told.seen.append(body)
                told.tokens.add(self.headers["authorization"])
                busy = told.busy > 0
                told.busy -= busy
            threading.Event().wait(told.pause * (3 - body.get("n", 0) % 3))
            if told.first is not None and body.get("n") == 0:
                told.first.wait(20)
            with told.lock:
                told._now -= 1
            if busy:
                self._answer(503, {"title": "busy"}, {"Retry-After": "0"})
            elif body.get("n") in told.drop:
                self.close_connection = True
            elif body.get("n") == 13:
                self._answer(422, {"title": "unlucky"})
            else:
                self._answer(200, {"path": self.path, "got": body, **({"fill": told.fill} if told.fill else {})})

        def _answer(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
            content = orjson.dumps(document)
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield told
    server.shutdown()
    server.server_close()


@pytest.fixture
def calling(services: JobServices, gateway: Gateway) -> JobServices:
    """``services`` whose jobs call the stand-in."""
    settings = services.settings.model_copy(update={"gateway_url": gateway.url, "max_body_bytes": 4096})
    return JobServices(settings, services.engine, services.artifacts, services.jobs)


def upload(services: JobServices, content: bytes) -> str:
    with services.artifacts.draft() as draft:
        draft.write(content)
        return f"artifact:{services.artifacts.add(draft, OWNER, 'lines.jsonl', 'application/jsonl').id}"


def submit(services: JobServices, **parameters: Any) -> Job:
    checked = batch.BatchParameters.model_validate(parameters)
    batch.check(services, OWNER, checked)
    order = Order("batch", "batch", checked.model_dump(mode="json"))
    return services.jobs.submit(OWNER, order, max_queued=10)[0]


def results(services: JobServices, job: Job) -> list[Any]:
    [made] = services.artifacts.of_job(job.id)
    assert made.name == "results.jsonl"
    return [orjson.loads(line) for line in b"".join(services.artifacts.read(made)).splitlines()]


def line(n: int, **more: Any) -> bytes:
    return orjson.dumps({"custom_id": f"r{n}", "method": "POST", "url": "/v1/echo", "body": {"n": n}} | more)


def test_answers_are_in_the_order_of_lines_though_they_come_in_another(calling: JobServices, gateway: Gateway) -> None:
    gateway.pause = 0.02
    job = submit(calling, input=upload(calling, b"\n".join(line(n) for n in range(40))), concurrency=4)
    assert run_job(calling, job.id) == "succeeded"
    rows = results(calling, job)
    assert [row["custom_id"] for row in rows] == [f"r{n}" for n in range(40)]
    assert rows[0]["response"]["body"] == {"path": "/v1/echo", "got": {"n": 0}} and rows[0]["error"] is None
    assert rows[13]["response"]["status_code"] == 422
    assert calling.jobs.get(OWNER, job.id).result == {
        "lines": 40,
        "succeeded": 39,
        "failed": 1,
        "first_error": "Line 14 was answered 422.",
    }
    assert 1 < gateway.most <= 4


def test_answers_that_wait_for_a_slow_one_are_bounded(
    calling: JobServices, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_run, "_WINDOW_BYTES", 20_000)
    gateway.first, gateway.fill = threading.Event(), "x" * 10_000
    job = submit(calling, input=upload(calling, b"\n".join(line(n) for n in range(30))), concurrency=4)
    running = threading.Thread(target=run_job, args=(calling, job.id))
    running.start()
    threading.Event().wait(1.5)
    asked = len(gateway.seen)
    gateway.first.set()
    running.join(30)
    assert 4 <= asked <= 8  # of 16 that may be in the window by their number
    assert [row["custom_id"] for row in results(calling, job)] == [f"r{n}" for n in range(30)]


def test_a_bad_line_fails_alone_and_says_why(calling: JobServices) -> None:
    content = b"\n".join(
        [
            line(0),
            b'{"custom_id": "torn',
            b"[1]",
            b"",
            b"\xff\xfe",
            line(1, method="GET"),
            line(2, url="http://169.254.169.254/latest"),
            line(3, url="/v1/../metrics"),
            line(4, url="//evil/v1/x"),
            line(5, body=[]),
            line(6, custom_id=7),
            line(7, body={"n": 7, "stream": True}),
            b'{"custom_id": "long", "body": {"x": "' + b"y" * 9000 + b'"}}',
            line(8),
        ]
    )
    job = submit(calling, input=upload(calling, content))
    assert run_job(calling, job.id) == "succeeded"
    rows = results(calling, job)
    assert [row["error"] and row["error"]["code"] for row in rows] == [
        None, "line-malformed", "line-malformed", "line-malformed", "line-invalid", "line-invalid", "line-invalid",
        "line-invalid", "line-invalid", "line-invalid", "line-invalid", "line-too-long", None,
    ]  # fmt: skip
    assert "Line 2 " in rows[1]["error"]["message"] and "Line 5 " in rows[3]["error"]["message"]
    assert rows[4]["custom_id"] == "r1" and rows[-1]["response"]["status_code"] == 200
    assert calling.jobs.get(OWNER, job.id).result == {
        "lines": 13, "succeeded": 2, "failed": 11,
        "first_error": "Line 2 is not JSON: unexpected control character in string: line 1 column 20 (char 19).",
    }  # fmt: skip


def test_lines_may_come_with_the_job_and_share_an_endpoint_and_defaults(calling: JobServices, gateway: Gateway) -> None:
    lines = [{"body": {"n": 1}}, {"url": "/v1/other", "body": {"n": 2, "labels": ["x"]}}]
    job = submit(calling, input=lines, endpoint="/v1/classify", defaults={"labels": ["a", "b"]})
    assert run_job(calling, job.id) == "succeeded"
    first, second = (row["response"]["body"] for row in results(calling, job))
    assert first == {"path": "/v1/classify", "got": {"n": 1, "labels": ["a", "b"]}}
    assert second == {"path": "/v1/other", "got": {"n": 2, "labels": ["x"]}}


def test_a_busy_gateway_is_asked_again_and_a_line_it_never_answers_fails(
    calling: JobServices, gateway: Gateway
) -> None:
    gateway.busy, gateway.drop = 3, {2}
    job = submit(calling, input=upload(calling, b"\n".join(line(n) for n in range(4))), concurrency=1)
    assert run_job(calling, job.id) == "succeeded"
    rows = results(calling, job)
    assert [row["response"] and row["response"]["status_code"] for row in rows] == [200, 200, None, 200]
    assert rows[2]["error"]["code"] == "no-answer" and "3 tries" in rows[2]["error"]["message"]


def test_a_batch_that_is_handed_back_asks_no_line_twice(calling: JobServices, gateway: Gateway) -> None:
    gateway.pause = 0.02
    job = submit(calling, input=upload(calling, b"\n".join(line(n) for n in range(60))), concurrency=2)
    stop = threading.Event()
    outcome: list[str] = []
    thread = threading.Thread(target=lambda: outcome.append(run_job(calling, job.id, shutdown=stop.is_set)))
    thread.start()
    while len(gateway.seen) < 20:
        threading.Event().wait(0.01)
    stop.set()
    thread.join(20)
    assert outcome == ["handed-back"]
    assert run_job(calling, job.id) == "succeeded"
    assert [row["custom_id"] for row in results(calling, job)] == [f"r{n}" for n in range(60)]
    again = len(gateway.seen) - 60
    assert again <= 8  # what was in flight, and what waited for its turn behind it
    assert calling.jobs.get(OWNER, job.id).result == {
        "lines": 60,
        "succeeded": 59,
        "failed": 1,
        "first_error": "Line 14 was answered 422.",
    }


def test_a_batch_calls_for_its_owner_and_only_as_long_as_it_runs(calling: JobServices, gateway: Gateway) -> None:
    job = submit(calling, input=[{"url": "/v1/echo", "body": {}}])
    gateway.pause = 0.1
    thread = threading.Thread(target=run_job, args=(calling, job.id))
    thread.start()
    while not gateway.tokens:
        threading.Event().wait(0.005)
    [header] = gateway.tokens
    keys = KeyStore(calling.engine)
    found = keys.authenticate(header.removeprefix("Bearer "))
    thread.join()
    assert found is not None and (found.id, found.scopes, found.job_id) == (OWNER, ("infer",), job.id)
    for stale in (header.removeprefix("Bearer "), "sl_job.x.1.y", f"sl_job.{job.id}.1.{'0' * 64}", "sl_job."):
        assert keys.authenticate(stale) is None


def test_the_token_of_a_job_has_no_more_scope_than_its_key(calling: JobServices, gateway: Gateway) -> None:
    from services.jobs import leases
    from services.storage import job_tokens

    keys = KeyStore(calling.engine)
    for scopes, wanted in ((["jobs"], ()), (["jobs", "infer"], ("infer",)), (["admin"], ("infer",))):
        key, _ = keys.create("k", scopes)
        order = Order("count", "default", {})
        job = calling.jobs.submit(key.id, order, max_queued=10)[0]
        lease = leases.claim(calling.engine, job.id, "w")
        assert lease is not None
        token = job_tokens.mint(calling.engine, job.id, lease.fence)
        found = keys.authenticate(token)
        assert found is not None and (found.id, found.scopes) == (key.id, wanted)
        keys.revoke(key.id)
        assert keys.authenticate(token) is None


def test_a_batch_without_lines_or_of_anothers_file_is_refused(services: JobServices) -> None:
    mine = upload(services, line(1))
    for source, code in (
        ([], "batch-input"),
        ("nonsense", "batch-input"),
        ("artifact:nonsense", "artifact-not-found"),
        ("dataset:ds_01J9Z3N0V4Q4S3D6B8W2X5Y7ZA", "dataset-not-found"),
    ):
        with pytest.raises(Problem) as refused:
            batch.check(services, OWNER, batch.BatchParameters(input=source))
        assert (refused.value.code, refused.value.pointer) == (code, "/parameters/input")
    with pytest.raises(Problem):
        batch.check(services, "key_other", batch.BatchParameters(input=mine))


def test_a_file_of_a_million_lines_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    block = b"".join(line(n) + b"\n" for n in range(1000))
    with path.open("wb") as file:
        for _ in range(1000):
            file.write(block)
    with path.open("rb") as source:
        assert batch_lines.count(source) == 1_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with path.open("rb") as source:
        last = None
        for last in batch_lines.of_file(source, 0, 1, 4096):  # noqa: B007 (the last is looked at)
            pass
    assert last is not None and last.number == 1_000_000 and last.end == path.stat().st_size
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


def test_long_lines_are_read_ahead_by_their_bytes() -> None:
    lines = (batch_lines.Line(n, bytes(3 << 20), n) for n in range(100))
    read = [batch_run._some(lines) for _ in range(40)]
    assert max(sum(len(line.data) for line in part) for part in read) <= 12 << 20
    assert [line.number for part in read for line in part] == list(range(100))  # none is lost between two reads


def test_reading_goes_on_at_any_line(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"\n".join([line(0), b"", b"x" * 5000, b"  ", line(4)]))
    with path.open("rb") as source:
        whole = list(batch_lines.of_file(source, 0, 1, 100))
        for index, stop in enumerate(whole):
            rest = list(batch_lines.of_file(source, stop.end, stop.number + 1, 100))
            assert rest == whole[index + 1 :]
    assert [entry.number for entry in whole] == [1, 3, 5]
    assert [entry.too_long for entry in whole] == [False, True, False]


def test_a_gateway_that_is_away_is_waited_for(services: JobServices, monkeypatch: pytest.MonkeyPatch) -> None:
    from services.batch import run as batch_run

    monkeypatch.setattr(batch_run, "_AWAY_SECONDS", 0.5)
    settings = services.settings.model_copy(update={"gateway_url": "http://127.0.0.1:9", "job_patience": 0.5})
    away = JobServices(settings, services.engine, services.artifacts, services.jobs)
    job = submit(away, input=[{"url": "/v1/echo", "body": {}}])
    assert asyncio.run(asyncio.to_thread(run_job, away, job.id)) == "failed"
    error = away.jobs.get(OWNER, job.id).error
    assert error is not None and error["code"] == "gateway-unavailable"


def test_marks_line_ends_and_blank_lines_of_other_tools_change_nothing(calling: JobServices, gateway: Gateway) -> None:
    content = b"\xef\xbb\xbf" + line(0) + b"\r\n\r\n  \r\n" + line(1) + b"\r\n\n" + line(2)
    job = submit(calling, input=upload(calling, content))
    run_job(calling, job.id)
    done = calling.jobs.get(OWNER, job.id)
    assert done.state == "succeeded" and done.result == {"lines": 3, "succeeded": 3, "failed": 0}
    assert (done.progress["step"], done.progress["total"]) == (3, 3)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (line(0).decode().encode("utf-16"), "UTF-16"),
        (gzip.compress(line(0)), "gzip"),
    ],
)
def test_a_file_that_is_no_utf8_is_refused_by_name(calling: JobServices, content: bytes, what: str) -> None:
    job = submit(calling, input=upload(calling, content))
    run_job(calling, job.id)
    done = calling.jobs.get(OWNER, job.id)
    assert done.state == "failed" and done.error is not None
    assert done.error["code"] == "batch-encoding" and what in done.error["detail"]


def test_a_batch_of_which_nothing_succeeds_has_failed_and_keeps_its_answers(calling: JobServices) -> None:
    job = submit(calling, input=[{"custom_id": "a", "url": "/v1/echo\n", "body": {}}, {"custom_id": "b", "url": 3}])
    run_job(calling, job.id)
    done = calling.jobs.get(OWNER, job.id)
    assert done.state == "failed" and done.error is not None and done.error["code"] == "batch-failed"
    assert "2 of 2 lines" in done.error["detail"] and "The first: url of line 1" in done.error["detail"]
    assert [row["custom_id"] for row in results(calling, done)] == ["a", "b"]


def test_a_body_that_is_nested_too_deeply_is_one_error(calling: JobServices, gateway: Gateway) -> None:
    deep = b'{"custom_id":"deep","url":"/v1/echo","body":{"n":' + b"[" * 500 + b"]" * 500 + b"}}"
    job = submit(calling, input=upload(calling, deep + b"\n" + line(1)))
    run_job(calling, job.id)
    done = calling.jobs.get(OWNER, job.id)
    assert done.state == "succeeded" and done.result is not None
    assert (done.result["succeeded"], done.result["failed"]) == (1, 1)
    assert done.result["first_error"].startswith("body of line 1 cannot be sent")
