"""Traces as a collector receives them: one for a request and everything that it began; and nothing at all when off."""

from __future__ import annotations

import base64
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services import tracing
from services.errors import Problem
from services.jobs.services import JobServices
from services.runtime.protocol import Inference
from services.settings import Settings
from services.stages import Stages
from services.tracing import TimedStages
from tests.support import tiny_models
from tests.support.collector import Collector, collecting
from tests.support.jobs import run_job
from tests.support.pictures import encoded, photo
from tests.support.server import Server, serving
from tests.support.serving import eventually

SERVER, CONSUMER = 2, 5
IMAGE = base64.b64encode(encoded(photo(), "JPEG")).decode()
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


@pytest.fixture(scope="module")
def server(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("traced")
    settings = Settings(data_dir=folder / "data", port=0, otlp_endpoint=collector.url, log_level="warning")
    tiny_models.add_all(settings.models_dir)
    with serving(settings, folder) as made:
        yield made


def classify(server: Server, **headers: str) -> httpx.Response:
    body = {"model": "tiny-classifier", "image": IMAGE}
    return httpx.post(f"{server.url}/v1/classify", json=body, headers=headers)


def test_a_request_is_a_span_of_its_callers_trace_with_its_stages_below(server: Server, collector: Collector) -> None:
    answer = classify(server, traceparent=f"00-{TRACE}-{PARENT}-01")
    assert answer.status_code == 200
    eventually(lambda: any(span.trace == TRACE for span in collector.named("POST /v1/classify")))
    (span,) = [span for span in collector.named("POST /v1/classify") if span.trace == TRACE]
    assert (span.parent, span.kind, span.service, span.failed) == (PARENT, SERVER, "sightline-gateway", False)
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["http.route"] == "/v1/classify"
    assert span.attributes["sightline.model"] == "tiny-classifier"
    assert span.attributes["sightline.request_id"] == answer.headers["x-request-id"]
    stages = collector.below(span)
    assert list(dict.fromkeys(stage.name for stage in stages)) == ["decode", "queue", "infer", "encode"]
    assert all(span.begin <= stage.begin <= stage.end <= span.end for stage in stages)
    (infer,) = [stage for stage in stages if stage.name == "infer"]
    assert infer.attributes == {"sightline.batch_size": 1, "sightline.version": "1"}


def test_a_refusal_says_why_and_a_path_as_sent_is_no_name(server: Server, collector: Collector) -> None:
    httpx.post(f"{server.url}/v1/classify", json={"model": "tiny-classifier", "image": "!"})
    httpx.get(f"{server.url}/v1/models/invented-by-a-stranger")
    eventually(lambda: len(collector.named("GET /v1/models/{name}")) == 1)
    refused = [span for span in collector.spans if span.attributes.get("http.response.status_code") == 422]
    assert [span.attributes["error.type"] for span in refused] == ["image-not-base64"]
    assert not any("invented" in span.name for span in collector.spans)


def test_probes_are_not_traced(server: Server, collector: Collector) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        httpx.get(server.url + path)
    classify(server, traceparent=f"00-{'a' * 32}-{PARENT}-01")
    eventually(lambda: any(span.trace == "a" * 32 for span in collector.spans))
    assert not [span for span in collector.spans if span.name in ("GET /healthz", "GET /readyz", "GET /metrics")]


def test_what_the_caller_does_not_record_is_not_recorded_here(server: Server, collector: Collector) -> None:
    assert classify(server, traceparent=f"00-{'b' * 32}-{PARENT}-00").status_code == 200
    classify(server, traceparent=f"00-{'c' * 32}-{PARENT}-01")
    eventually(lambda: any(span.trace == "c" * 32 for span in collector.spans))
    assert not [span for span in collector.spans if span.trace == "b" * 32]


def test_a_job_and_its_own_requests_belong_to_the_trace_of_who_submitted_it(
    server: Server, collector: Collector
) -> None:
    line = {"url": "/v1/classify", "body": {"model": "tiny-classifier", "image": IMAGE}}
    order = {"kind": "batch", "parameters": {"input": [line, line]}}
    trace = "d" * 32
    submitted = httpx.post(f"{server.url}/v1/jobs", json=order, headers={"traceparent": f"00-{trace}-{PARENT}-01"})
    settings = server.settings.model_copy(update={"gateway_url": server.url})
    services = JobServices.open(settings)
    try:
        assert run_job(services, submitted.json()["id"]) == "succeeded"
    finally:
        services.close()
    eventually(lambda: len([span for span in collector.named("POST /v1/classify") if span.trace == trace]) == 2)
    (door,) = [span for span in collector.named("POST /v1/jobs") if span.trace == trace]
    (job,) = [span for span in collector.named("job batch") if span.trace == trace]
    assert (door.parent, job.parent, job.kind, job.service) == (PARENT, door.id, CONSUMER, "sightline-worker")
    assert job.attributes["sightline.job.outcome"] == "succeeded"
    assert job.attributes["sightline.job.id"] == submitted.json()["id"]
    requests = [span for span in collector.named("POST /v1/classify") if span.trace == trace]
    assert [span.parent for span in requests] == [job.id, job.id]


def test_without_a_collector_requests_are_answered_and_the_process_stops_in_time(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, and never listening
        taken.bind(("127.0.0.1", 0))
        settings = Settings(
            data_dir=tmp_path / "data", otlp_endpoint=f"http://127.0.0.1:{taken.getsockname()[1]}", port=0
        )
        tiny_models.add_classifier(settings.models_dir)
        with serving(settings, tmp_path) as server:
            assert classify(server).status_code == 200
            began = time.monotonic()
            server.stop()
            assert time.monotonic() - began < 10
            assert [worker.returncode for worker in server.workers.values()] == [0]


def test_nothing_of_opentelemetry_is_imported_when_tracing_is_off(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from services.settings import Settings; from gateway.app import "
        "create_app; create_app(Settings(data_dir=Path(sys.argv[1]))); "
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(Problem) as caught:
        tracing.start(Settings(otlp_endpoint="http://localhost:4318"), "x")
    assert caught.value.code == "tracing-missing" and "sightline[otel]" in (caught.value.remedy or "")


def test_timed_stages_add_up_as_others_do() -> None:
    plain, timed = Stages(), TimedStages()
    for stages in (plain, timed):
        stages.decode += 0.5
        stages.decode += 0.25
        stages.ran(Inference({}, "1", 0.1, 0.2, 4))
        stages.encode += 0.125
    for stage in ("decode", "queue", "infer", "encode"):
        assert getattr(timed, stage) == getattr(plain, stage)
    assert [name for name, *_ in timed.noted] == ["decode", "decode", "queue", "infer", "encode"]
    assert [round((end - begin) / 1e9, 3) for _, begin, end, _ in timed.noted] == [0.5, 0.25, 0.1, 0.2, 0.125]
    queue, infer = timed.noted[2], timed.noted[3]
    assert queue[2] == infer[1]
