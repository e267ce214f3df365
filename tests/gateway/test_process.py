"""The process as it is run: starts without heavy libraries, drains without a failed request, survives bad clients."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from PIL import Image

from gateway import LAME_DUCK_SIGNAL
from services.settings import Settings
from tests.support import tiny_models
from tests.support.server import Server, serving
from tests.support.serving import eventually

BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "sklearn", "scipy", "onnx", "pandas", "matplotlib"}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture
def slow_repository(settings: Settings) -> Path:
    """A model that takes about 150 ms."""
    model = tiny_models.slow(iterations=30_000)
    return tiny_models.write(settings.models_dir, tiny_models.card("tiny-slow", model), {"model.onnx": model})


def infer_body() -> dict[str, object]:
    return {"inputs": [{"name": "x", "shape": [1, 64], "datatype": "FP32", "data": [0.0] * 64}]}


def test_it_starts_without_torch_transformers_or_sklearn(settings: Settings, repository: Path, tmp_path: Path) -> None:
    with serving(settings, tmp_path, wrapper=BLOCKED) as server:
        models = httpx.get(f"{server.url}/v1/models", timeout=10).json()["data"]
        assert {model["state"] for model in models} == {"READY"}, server.said()


def test_it_is_not_ready_from_the_moment_the_platform_begins_to_stop_and_goes_on_answering(
    settings: Settings, repository: Path, tmp_path: Path
) -> None:
    with serving(settings, tmp_path) as server:
        os.kill(server.pid, LAME_DUCK_SIGNAL)
        eventually(lambda: httpx.get(f"{server.url}/readyz", timeout=5).status_code == 503)
        assert httpx.get(f"{server.url}/v2/health/ready", timeout=5).status_code == 503
        for _ in range(2):
            models = httpx.get(f"{server.url}/v1/models", timeout=5)
            assert models.status_code == 200 and "connection" not in models.headers
        os.kill(server.pid, signal.SIGTERM)
        assert server.workers["w0"].wait(60) == 0


def test_sigterm_ends_it_with_code_0_and_readiness_turns_at_once(settings: Settings, tmp_path: Path) -> None:
    settings = settings.model_copy(update={"lame_duck_seconds": 3.0})
    with serving(settings, tmp_path) as server, httpx.Client(base_url=server.url, timeout=5) as client:
        os.kill(server.pid, signal.SIGTERM)
        time.sleep(0.2)
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
        assert ready.headers["connection"] == "close"
        assert client.get("/healthz").status_code == 200
        assert server.workers["w0"].wait(60) == 0


def test_a_second_signal_does_not_wait(settings: Settings, slow_repository: Path, tmp_path: Path) -> None:
    settings = settings.model_copy(update={"lame_duck_seconds": 30.0})
    with serving(settings, tmp_path) as server:
        os.kill(server.pid, signal.SIGTERM)
        time.sleep(0.3)
        assert server.workers["w0"].poll() is None
        os.kill(server.pid, signal.SIGINT)
        assert server.workers["w0"].wait(25) == 1


async def _hammer(server: Server, stop: asyncio.Event, outcomes: list[str], *, until_closed: bool = False) -> None:
    """Classify one after another, until told to stop or, ``until_closed``, until the server closes the connection."""
    picture = tiny_picture()
    async with httpx.AsyncClient(base_url=server.url, timeout=20, headers={"content-type": "image/png"}) as client:
        while not stop.is_set():
            try:
                answer = await client.post("/v1/classify?model=tiny-classifier", content=picture)
            except httpx.HTTPError as error:
                outcomes.append(repr(error))
                return
            outcomes.append(str(answer.status_code))
            if until_closed and answer.headers.get("connection") == "close":
                return
            await asyncio.sleep(0.002)


def tiny_picture() -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (40, 30), "green").save(sink, "PNG")
    return sink.getvalue()


async def test_a_worker_that_drains_under_traffic_loses_no_request(
    settings: Settings, repository: Path, tmp_path: Path
) -> None:
    with serving(settings, tmp_path, workers=2) as server:
        stop, outcomes = asyncio.Event(), []
        clients = [asyncio.create_task(_hammer(server, stop, outcomes)) for _ in range(8)]
        await asyncio.sleep(0.5)
        first = server.workers["w0"]
        first.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(first.wait, 60) == 0
        await asyncio.sleep(0.3)
        before = len(outcomes)
        await asyncio.sleep(0.3)
        stop.set()
        await asyncio.gather(*clients)
        assert set(outcomes) == {"200"}, server.said()
        assert len(outcomes) > before > 20


async def test_a_server_that_stops_answers_every_request_on_every_connection(
    settings: Settings, repository: Path, tmp_path: Path
) -> None:
    with serving(settings, tmp_path) as server:
        never, outcomes = asyncio.Event(), []
        clients = [asyncio.create_task(_hammer(server, never, outcomes, until_closed=True)) for _ in range(12)]
        while len(outcomes) < 40:  # noqa: ASYNC110 - it is told by clients as they go
            await asyncio.sleep(0.01)
        os.kill(server.pid, signal.SIGTERM)
        await asyncio.wait_for(asyncio.gather(*clients), 60)
        assert set(outcomes) == {"200"}, server.said()
        assert len(outcomes) >= 52
        assert await asyncio.to_thread(server.workers["w0"].wait, 60) == 0


async def test_requests_in_flight_are_finished(settings: Settings, slow_repository: Path, tmp_path: Path) -> None:
    with serving(settings, tmp_path) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=20) as client:
            path = "/v2/models/tiny-slow/infer"
            sent = [asyncio.create_task(client.post(path, json=infer_body())) for _ in range(6)]
            await asyncio.sleep(0.2)
            os.kill(server.pid, signal.SIGTERM)
            answers = await asyncio.gather(*sent)
        assert [answer.status_code for answer in answers] == [200] * 6, server.said()
        assert server.workers["w0"].wait(60) == 0


def request_context(server: Server, data: bytes, seconds: float = 5.0) -> bytes:
    """Send bytes, and read until the server closes or says nothing more for a while."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as connection:
        received = b""
        try:
            connection.sendall(data)
            while piece := connection.recv(65536):
                received += piece
        except (TimeoutError, ConnectionError):
            pass
        return received


def test_what_is_not_http_is_refused_in_the_usual_form(settings: Settings, tmp_path: Path) -> None:
    with serving(settings, tmp_path) as server:
        for nonsense in (
            b"\x00\x01\x02\r\n\r\n",
            b"GET\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00",
            b"GET / HTTP/9.9\r\n\r\n",
        ):
            answer = request_context(server, nonsense)
            assert answer.startswith(b"HTTP/1.1 400 "), nonsense
            assert b"application/problem+json" in answer
        smuggled = (
            b"POST /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        )
        assert request_context(server, smuggled).startswith(b"HTTP/1.1 400 ")
        endless = b"GET /healthz HTTP/1.1\r\n" + b"x-a: " + b"a" * 4000 + b"\r\n" + b"x-b: b\r\n" * 40_000
        assert request_context(server, endless).startswith(b"HTTP/1.1 431 ")
        assert httpx.get(f"{server.url}/healthz", timeout=5).status_code == 200


def test_the_body_of_a_declined_upgrade_is_not_the_next_request(settings: Settings, tmp_path: Path) -> None:
    head = b"POST /v1/classify HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: upgrade\r\n"
    inner = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    offer = head + b"upgrade: h2c\r\ncontent-length: %d\r\n\r\n" % len(inner)
    last = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    with serving(settings, tmp_path) as server:
        answer = request_context(server, offer + inner + last)
        assert answer.count(b"HTTP/1.1 ") == 2, answer
        assert b"json-malformed" in answer and answer.endswith(b'{"status":"ok"}')
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            for piece in (offer, inner[:7], inner[7:], last):
                connection.sendall(piece)
                time.sleep(0.05)
            received = b""
            while piece := connection.recv(65536):
                received += piece
        assert received.count(b"HTTP/1.1 ") == 2 and b"json-malformed" in received, received
        chunked = head + b"upgrade: h2c\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        assert request_context(server, chunked + inner).count(b"HTTP/1.1 400") == 1


def test_a_body_that_the_client_announces_is_refused_before_it_is_sent(settings: Settings, tmp_path: Path) -> None:
    with serving(settings, tmp_path) as server:
        head = (
            b"POST /v1/classify HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: 99999999\r\nexpect: 100-continue\r\n\r\n"
        )
        begin = time.monotonic()
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            connection.sendall(head)
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413 ") and b"connection: close" in answer
        assert time.monotonic() - begin < 4  # nobody waited for the body


def test_a_server_for_others_does_not_start_without_a_key(settings: Settings, tmp_path: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("0.0.0.0", 0))
        listening.listen()
        server = Server(settings, listening, tmp_path / "log")
        worker = server.start()
        assert worker.wait(30) == 2
        assert "no API key exists" in server.said()
        assert "sightline keys create" in server.said()


def test_metrics_are_those_of_all_workers(settings: Settings, repository: Path, tmp_path: Path) -> None:
    with serving(settings, tmp_path, workers=2) as server:
        for _ in range(40):
            assert httpx.get(f"{server.url}/v1/models/none-such", timeout=5).status_code == 404
        text = httpx.get(f"{server.url}/metrics", timeout=5).text
        assert 'sightline_requests_total{code="404",model="none",task="none"} 40.0' in text
        os.kill(server.workers["w1"].pid, signal.SIGKILL)
        server.workers["w1"].wait()
        server.start("w1")
        time.sleep(0.5)
        server.wait_ready()
        text = httpx.get(f"{server.url}/metrics", timeout=5).text
        assert 'sightline_requests_total{code="404",model="none",task="none"} 40.0' in text
        assert 'sightline_model_ready{model="tiny-classifier",version="1"} 1.0' in text


def test_help_says_how_it_is_started() -> None:
    done = subprocess.run([sys.executable, "-m", "gateway", "--help"], capture_output=True, text=True, check=True)
    assert "--fd" in done.stdout
