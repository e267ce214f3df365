"""The load generator tells the truth: it counts what happened, and waiting is part of latency."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from speed import meter, tiny
from speed.loadgen import Request, measure

Answer = tuple[int, bytes, float]
"""Status, body, and the seconds that it takes."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answer: Callable[[], Answer]
    one_at_a_time: threading.Lock

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body, seconds = type(self).answer()
        with self.one_at_a_time:
            time.sleep(seconds)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


Serve = Callable[[Callable[[], Answer]], Request]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Callable[[], Answer]) -> Request:
        handler = type("H", (Handler,), {"answer": staticmethod(answer), "one_at_a_time": threading.Lock()})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return Request(f"http://127.0.0.1:{server.server_port}/x?y=z", b"body", "text/plain", b"right")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_right_answers_are_counted_with_their_latency(serve: Serve) -> None:
    request = serve(lambda: (200, b"the right one", 0.02))
    point = measure(request, os.getpid(), users=1, seconds=0.4, warm_up=0)
    assert 5 <= point.good <= 20 and point.failed == 0
    assert 20 <= point.ms(0.5) < 100
    assert point.rate == pytest.approx(point.good / point.seconds)


def test_a_wrong_answer_is_a_failure_not_a_success(serve: Serve) -> None:
    point = measure(serve(lambda: (200, b"nonsense", 0.01)), os.getpid(), users=2, seconds=0.2, warm_up=0)
    assert point.good == 0 and point.failed == point.wrong > 0


def test_refusals_are_told_apart_from_failures(serve: Serve) -> None:
    point = measure(serve(lambda: (429, b"", 0.01)), os.getpid(), users=2, seconds=0.2, warm_up=0)
    assert point.good == 0 and point.failed == 0 and len(point.latencies[429]) > 0
    point = measure(serve(lambda: (500, b"", 0.01)), os.getpid(), users=2, seconds=0.2, warm_up=0)
    assert point.failed == len(point.latencies[500]) > 0


def test_waiting_in_line_is_part_of_the_latency_of_an_open_loop(serve: Serve) -> None:
    request = serve(lambda: (200, b"right", 0.02))  # 50 a second at most, and twice that are sent
    point = measure(request, os.getpid(), users=64, seconds=0.6, rate=100, warm_up=0)
    assert point.good == point.sent and point.failed == 0
    assert point.ms(1.0) > 300


def test_nobody_there_is_an_error() -> None:
    request = Request("http://127.0.0.1:9/", b"", "text/plain", b"")
    point = measure(request, os.getpid(), users=1, seconds=0.1, warm_up=0)
    assert point.good == 0 and point.failed > 0


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads Linux' /proc")
def test_cpu_and_memory_are_those_of_the_process_tree() -> None:
    before = meter.usage(os.getpid())
    end = time.process_time() + 0.15
    while time.process_time() < end:
        pass
    after = meter.usage(os.getpid())
    assert 0.1 <= after.cpu - before.cpu < 2 and after.memory > 10
    assert meter.tree(os.getpid())[0] == os.getpid()


def test_the_picture_and_the_network_give_one_clear_answer(tmp_path: Path) -> None:
    tiny.write_network(tmp_path / "tiny.onnx")
    jpeg = tiny.picture()
    assert 10_000 < len(jpeg) < 30_000 and tiny.picture() == jpeg
    assert tiny.tensor(jpeg).shape == (1, 3, tiny.SIZE, tiny.SIZE) and tiny.tensor(jpeg).dtype == np.float32
    assert 0 <= tiny.right_answer(tmp_path / "tiny.onnx", jpeg) < tiny.CLASSES
