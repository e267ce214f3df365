"""A webhook is signed, tried again until it is taken, written down, and never goes inside."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import pytest

from services.errors import Problem
from services.jobs import webhooks
from services.jobs.records import Order, Webhook
from services.jobs.services import JobServices
from services.jobs.webhooks import Deliveries, check_address, signature
from services.net.guard import SystemResolver
from tests.support.jobs import run_job

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef").decode()


@dataclass
class Receiver:
    url: str = ""
    answers: list[int] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    told = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            told.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(told.answers.pop(0) if told.answers else 204)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told.url = f"http://127.0.0.1:{server.server_address[1]}/hook?x=1"
    yield told
    server.shutdown()
    server.server_close()


def ended(services: JobServices, url: str, kind: str = "count") -> str:
    order = Order(kind, "default", {}, webhook=Webhook(url, SECRET))
    job, _ = services.jobs.submit("a", order, max_queued=10)
    run_job(services, job.id)
    return job.id


def deliveries(services: JobServices, *, private: bool = True, attempts: int = 8) -> Deliveries:
    settings = services.settings.model_copy(update={"webhook_private": private, "webhook_attempts": attempts})
    return Deliveries(services.engine, settings, first_pause=0.05)


def test_the_end_of_a_job_is_told_signed(services: JobServices, receiver: Receiver) -> None:
    job_id = ended(services, receiver.url)
    sending = deliveries(services)
    assert sending.deliver() == 1 and sending.deliver() == 0
    [(headers, body)] = receiver.got
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(b"0123456789abcdef", signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    told = orjson.loads(body)
    assert told["type"] == "job.succeeded"
    assert (told["data"]["id"], told["data"]["result"]) == (job_id, {"total": 45, "counted": 10})
    [tried] = webhooks.attempts(services.engine, job_id)
    assert (tried.number, tried.status, tried.error, tried.event) == (1, 204, None, "job.succeeded")


def test_the_signature_is_the_specifications() -> None:
    # The example of the Standard Webhooks specification's reference libraries.
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    made = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_it_is_tried_again_with_pauses_until_it_is_taken(services: JobServices, receiver: Receiver) -> None:
    receiver.answers = [500, 302, 429]
    job_id = ended(services, receiver.url, "fail")
    sending = deliveries(services)
    end = time.monotonic() + 20
    while len(receiver.got) < 4 and time.monotonic() < end:
        sending.deliver()
        time.sleep(0.02)
    tried = webhooks.attempts(services.engine, job_id)
    assert [attempt.status for attempt in tried] == [500, 302, 429, 204]
    assert tried[3].at - tried[2].at > tried[1].at - tried[0].at  # pauses grow
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert orjson.loads(receiver.got[0][1])["data"]["error"]["code"] == "job-crashed"


def test_it_is_given_up_in_the_end(services: JobServices, receiver: Receiver) -> None:
    receiver.answers = [500] * 9
    job_id = ended(services, receiver.url)
    sending = deliveries(services, attempts=2)
    for _ in range(30):
        sending.deliver()
        time.sleep(0.02)
    assert [attempt.status for attempt in webhooks.attempts(services.engine, job_id)] == [500, 500]


def test_a_new_delivery_does_not_wait_behind_a_receiver_that_is_away(
    services: JobServices, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_LOOKED_AT", 3)
    sending = Deliveries(services.engine, services.settings.model_copy(update={"webhook_private": True}))
    for _ in range(3):
        ended(services, "http://127.0.0.1:9/")
    assert sending.deliver() == 3
    ended(services, receiver.url)
    assert sending.deliver() == 1
    assert len(receiver.got) == 1


def test_a_receiver_that_wants_no_more_is_left_alone(services: JobServices, receiver: Receiver) -> None:
    receiver.answers = [410]
    ended(services, receiver.url)
    sending = deliveries(services)
    for _ in range(10):
        sending.deliver()
        time.sleep(0.02)
    assert len(receiver.got) == 1


def test_a_private_address_is_refused_when_it_is_connected_to(services: JobServices, receiver: Receiver) -> None:
    job_id = ended(services, receiver.url)
    deliveries(services, private=False).deliver()
    assert receiver.got == []
    [tried] = webhooks.attempts(services.engine, job_id)
    assert tried.status is None and tried.error == "the host does not resolve to public addresses only"


def test_a_receiver_that_is_away_is_written_down(services: JobServices) -> None:
    job_id = ended(services, "http://127.0.0.1:9/")
    deliveries(services).deliver()
    [tried] = webhooks.attempts(services.engine, job_id)
    assert tried.status is None and tried.error == "ConnectError"


def test_two_processes_make_one_attempt(services: JobServices, receiver: Receiver) -> None:
    ended(services, receiver.url)
    receiver.answers = [500]
    first, second = deliveries(services), deliveries(services)
    threads = [threading.Thread(target=one.deliver) for one in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(receiver.got) == 1


async def test_private_addresses_may_be_allowed() -> None:
    resolver = SystemResolver()
    await check_address("http://127.0.0.1:8000/x", resolver, private=True)
    for url in ("http://127.0.0.1/", "https://127.0.0.1/", "https://no-such-host.invalid/"):
        with pytest.raises(Problem) as refused:
            await check_address(url, resolver, private=False)
        assert refused.value.pointer == "/webhook/url"
    resolver.close()


async def test_a_name_server_that_does_not_answer_refuses_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(host: str, port: int) -> list[str]:
        await asyncio.sleep(60)
        return []

    monkeypatch.setattr(webhooks, "_RESOLVE_SECONDS", 0.05)
    with pytest.raises(Problem) as refused:
        await check_address("https://example.com/", silent, private=False)
    assert refused.value.code == "webhook-blocked"
