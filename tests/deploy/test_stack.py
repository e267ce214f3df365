"""The services of docker-compose.yml, executed: they become healthy, work together, fill every panel, and stop.

As processes, not in containers; see ``tests.support.compose``.
"""

from __future__ import annotations

import base64
import math
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.grafana.boards import BOARDS
from tests.support import exported, tiny_detectors, tiny_models
from tests.support.compose import NOT_HERE, Stack
from tests.support.pictures import encoded, photo
from tests.support.promql import metrics_of
from tests.support.serving import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

IMAGE = base64.b64encode(encoded(photo(), "JPEG")).decode()
LINE = {"url": "/v1/classify", "body": {"model": "tiny-classifier", "image": IMAGE}}
WITHOUT_DATA = exported.GPU | {"sightline_torch_worker_up", "sightline_torch_steps_total"}
"""What no service of this test exports: it has no GPU, and no model of it needs PyTorch. A panel of anything else must
show data."""

OWN = ("gateway", "worker-", "torch-worker")
TRAFFIC_SECONDS = 15.0


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    # PostgreSQL runs as another user, who could not look into pytest's own folder.
    folder = Path(tempfile.mkdtemp(prefix="sl-stack-"))
    gateway = {"OMP_NUM_THREADS": "1", "SIGHTLINE_WEBHOOK_PRIVATE": "true", "SIGHTLINE_RUNTIME": "triton"}
    made = Stack(folder, extra={"gateway": gateway})
    faster = [("interval: 15s", "interval: 1s"), ("scrape_timeout: 10s", "scrape_interval: 5s\n    scrape_timeout: 5s")]
    # The names of containers are found by asking a network that is not here.
    found = 'dns_sd_configs:\n      - names: ["{}"]\n        type: A\n        port: {}'
    for name, port in (("triton", 8002), ("triton-cpu", 8003)):
        target = made.url("triton-cpu", port).removeprefix("http://")
        faster.append((found.format(name, port), f'static_configs:\n      - targets: ["{target}"]'))
    made.edits = {"prometheus": faster}
    try:
        tiny_detectors.add_closed(tiny_models.add_all(made.volume("data") / "models"))
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def key(stack: Stack) -> str:
    """The first key, made as the documentation says: before the gateway runs."""
    for name in ("redis", "postgres"):
        stack.start(name)
    stack.await_health("postgres")
    return stack.run("gateway", ["keys", "create", "--name", "me", "--scope", "admin"]).strip()


@pytest.fixture(scope="module")
def up(stack: Stack, key: str) -> Stack:
    """Everything started, each service when those that it needs are healthy."""
    # It takes longest, and the gateway is ready when it has found it.
    stack.start("triton-cpu")
    for name in stack.names:
        if name not in stack.running:
            stack.start(name)
    for name in stack.names:
        stack.await_health(name)
    return stack


@pytest.fixture(scope="module")
def platform(up: Stack, key: str) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=up.url("gateway", 8000), headers=headers, timeout=30) as client:
        yield client


def query(stack: Stack, path: str, **parameters: object) -> Any:
    answer = httpx.get(f"{stack.url('prometheus', 9090)}/api/v1/{path}", params=parameters, timeout=30)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_every_service_starts_and_becomes_healthy(up: Stack) -> None:
    assert set(up.running) == set(up.services) - set(NOT_HERE)


def test_strangers_are_not_answered_and_prometheus_reads_metrics_only(up: Stack, platform: httpx.Client) -> None:
    url = up.url("gateway", 8000)
    assert httpx.get(f"{url}/v1/models").status_code == 401
    assert httpx.get(f"{url}/metrics").status_code == 401
    token = {"authorization": f"Bearer {up.secret('sightline_metrics_token')}"}
    assert httpx.get(f"{url}/metrics", headers=token).status_code == 200
    assert httpx.get(f"{url}/v1/models", headers=token).status_code == 403
    assert platform.get("/v1/models").status_code == 200


def test_every_target_is_scraped(up: Stack) -> None:
    wanted = {"gateway", "redis", "celery", "prometheus", "alertmanager", "triton", "triton-watchdog"}

    def healthy() -> bool:
        active = query(up, "targets", state="active")["activeTargets"]
        return {target["labels"]["job"] for target in active if target["health"] == "up"} == wanted

    eventually(healthy, 30)


def test_every_panel_shows_data(up: Stack, platform: httpx.Client) -> None:
    began = time.time()
    with _receiver() as hook:
        _drive(platform, hook)
    empty: dict[str, str] = {}

    def looked() -> bool:
        empty.clear()
        for board in BOARDS:
            for panel in board.panels:
                for legend, expression in panel.queries.items():
                    if metrics_of(expression) & WITHOUT_DATA:
                        continue
                    asked = expression.replace("$rate", "20s").replace("$model", ".*")
                    found = query(up, "query_range", query=asked, start=began, end=time.time(), step="1s")["result"]
                    if not any(not math.isnan(float(value)) for one in found for _, value in one["values"]):
                        empty[f"{board.title}: {panel.title} {legend}"] = asked
        return not empty

    end = time.monotonic() + 60
    while not looked() and time.monotonic() < end:
        # A rate needs a change between two scrapes: on a slow machine all jobs may have ended before the first.
        platform.post("/v1/jobs", json={"kind": "batch", "parameters": {"input": [LINE]}}).raise_for_status()
        time.sleep(3)
    assert not empty


def test_no_alert_fires_on_a_healthy_platform(up: Stack) -> None:
    firing = {alert["labels"]["alertname"] for alert in query(up, "alerts")["alerts"] if alert["state"] == "firing"}
    assert not firing


def test_jobs_go_on_after_the_broker_was_killed(up: Stack, platform: httpx.Client) -> None:
    up.running.pop("redis").process.kill()
    up.start("redis")
    up.await_health("redis")
    job = platform.post("/v1/jobs", json={"kind": "batch", "parameters": {"input": [LINE]}}).json()["id"]
    eventually(lambda: platform.get(f"/v1/jobs/{job}").json()["state"] == "succeeded", 60)


def test_a_service_keeps_to_its_own_secrets(up: Stack) -> None:
    for name, service in up.services.items():
        given = {secret["source"] for secret in service.get("secrets", ())}
        text = " ".join(value for key, value in up.running[name].environment.items()) if name in up.running else ""
        for secret in ("postgres_password", "redis_password", "grafana_password"):
            assert secret in given or up.secret(secret) not in text, f"{name} was told {secret}"


def test_every_service_stops_when_told_and_leaves_nothing_running(up: Stack) -> None:
    needed = {one for service in up.services.values() for one in service.get("depends_on", {})}
    codes = up.stop([name for name in up.names if name not in needed])
    codes |= up.stop([name for name in up.names if name in needed])
    for name, code in codes.items():
        # Programs of others may die of the signal itself; the platform's own end by themselves.
        assert code == 0 if name.startswith(OWN) else code in (0, -15, 143), f"{name}: {code}"


# What people do


def _drive(platform: httpx.Client, hook: str) -> None:
    """About fifteen seconds of requests of every kind, and jobs that end while others run."""
    jobs = [
        {"kind": "batch", "parameters": {"input": [LINE] * lines}, "webhook": {"url": hook, "secret": "s" * 16}}
        for lines in (20, 20, 2000)
    ]
    submitted = [platform.post("/v1/jobs", json=job).json()["id"] for job in jobs]
    end = time.monotonic() + TRAFFIC_SECONDS

    def ask(number: int) -> None:
        while time.monotonic() < end:
            answered = platform.post("/v1/classify", json=LINE["body"])
            assert answered.status_code == 200, answered.text
            assert platform.post("/v1/classify", json={"model": "tiny-classifier", "image": "!"}).status_code == 422
            body = {"model": "tiny-text", "input": [f"a photo of {number}"]}
            assert platform.post("/v1/embeddings", json=body).status_code == 200
            body = {"model": "tiny-closed", "image": IMAGE}
            assert platform.post("/v1/detect", json=body).status_code == 200
            time.sleep(0.05)

    with ThreadPoolExecutor(4) as pool:
        for asked in [pool.submit(ask, number) for number in range(4)]:
            asked.result()
    for job in submitted:
        eventually(lambda job=job: platform.get(f"/v1/jobs/{job}").json()["state"] == "succeeded", 60)  # type: ignore[misc]


class _receiver:
    """Takes webhooks; as a context, its address."""

    def __enter__(self) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}/hook"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
