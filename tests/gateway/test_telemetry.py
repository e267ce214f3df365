"""Metrics are right with one process and with several, through restarts, and their labels stay few."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from gateway import logs, telemetry
from gateway.request.request_context import RequestContext
from gateway.telemetry import Telemetry
from services.errors import Kind, Problem
from services.stages import Stages

WORKER = """
import sys
from pathlib import Path
from gateway import telemetry
from gateway.request.request_context import RequestContext
directory, worker, requests = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
telemetry.join_workers(directory, worker)
made = telemetry.Telemetry(directory)
for number in range(requests):
    made.began()
    made.ended(RequestContext({}, "r", 0.0, 1.0, model="m", task="classify"), 200, 0.003)
made.began()
made.model_ready.labels("m", "1").set(1)
print(made.scrape().decode(), flush=True)
sys.stdin.read()
"""


def value(text: str, name: str, **labels: str) -> float | None:
    """The value of one series in Prometheus' text form."""
    for line in text.splitlines():
        match = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
        if match and dict(re.findall(r'(\w+)="([^"]*)"', match[1] or "")) == labels:
            return float(match[2])
    return None


def start(directory: Path, worker: str, requests: int) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(directory), worker, str(requests)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    while "sightline_worker_restarts_total" not in (line := process.stdout.readline()) or line.startswith("#"):
        assert line or process.poll() is None
        lines.append(line)
    return process, "".join([*lines, line])


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_any_worker_answers_for_all_and_a_restarted_one_goes_on_counting(tmp_path: Path) -> None:
    labels = {"model": "m", "task": "classify"}
    first, _ = start(tmp_path, "w0", 3)
    second, text = start(tmp_path, "w1", 4)
    assert value(text, "sightline_requests_total", **labels, code="200") == 7
    assert value(text, "sightline_request_duration_seconds_count", **labels) == 7
    assert value(text, "sightline_request_duration_seconds_sum", **labels) == pytest.approx(0.021)
    assert value(text, "sightline_inflight") == 2
    end(second)
    telemetry.retire(tmp_path, "w1")
    telemetry.count_restart(tmp_path)
    third, text = start(tmp_path, "w1", 5)
    assert value(text, "sightline_requests_total", **labels, code="200") == 12
    assert value(text, "sightline_inflight") == 2
    assert value(text, "sightline_worker_restarts_total") == 1
    assert value(text, "sightline_model_ready", model="m", version="1") == 1
    assert value(text, "sightline_stage_duration_seconds_count", model="m", stage="decode") == 12
    end(first)
    end(third)
    telemetry.clear(tmp_path)
    assert not list(tmp_path.glob("*.db"))


def request_context(**fields: object) -> RequestContext:
    return RequestContext({}, "req_1", 0.0, 1.0, **fields)  # type: ignore[arg-type]


def test_refusals_are_counted_by_a_few_reasons() -> None:
    made = Telemetry()
    for kind, code in [
        (Kind.TOO_MANY, "queue-full"),
        (Kind.TOO_MANY, "rate-limited"),
        (Kind.INVALID, "image-truncated"),
        (Kind.TOO_LARGE, "body-too-large"),
        (Kind.DEADLINE, "deadline-exceeded"),
        (Kind.NOT_FOUND, "model-not-found"),
    ]:
        made.began()
        made.ended(request_context(problem=Problem(kind, code, "")), 400, 0.001)
    text = made.scrape().decode()
    counted = dict(re.findall(r'sightline_rejected_total\{reason="(\w+)"\} (\S+)', text))
    assert counted == {"overload": "1.0", "quota": "1.0", "bad_image": "1.0", "too_large": "1.0", "deadline": "1.0"}
    assert value(text, "sightline_inflight") == 0


def test_an_answer_that_never_went_out_is_counted_as_the_client_leaving() -> None:
    made = Telemetry()
    made.began()
    made.ended(request_context(), 0, 0.001)
    assert value(made.scrape().decode(), "sightline_requests_total", model="none", task="none", code="499") == 1


def test_build_info_names_what_runs() -> None:
    text = Telemetry().scrape().decode()
    assert re.search(r'sightline_build_info\{onnxruntime="[^"]+",python="3\.[^"]+",version="[^"]+"\} 1\.0', text)


def test_worker_names_cannot_leave_the_folder(tmp_path: Path) -> None:
    for name in ("../x", "", "a/b", "a_b"):
        with pytest.raises(ValueError, match="worker"):
            telemetry.join_workers(tmp_path, name)


def test_a_log_line_is_one_json_object_with_its_extras() -> None:
    record = logging.LogRecord("sightline.x", logging.WARNING, __file__, 1, 'said %s\n"', ("this",), None)
    record.__dict__["request_id"] = "r1"
    line = logs.JsonFormatter().format(record)
    assert "\n" not in line
    parsed = orjson.loads(line)
    assert (parsed["level"], parsed["message"], parsed["request_id"]) == ("warning", 'said this\n"', "r1")
    assert parsed["time"].endswith("+00:00")


def written(form: logs.Format, level: str, path: str = "/v1/classify") -> bytes:
    import os

    reader, writer = os.pipe()
    scope = {"method": "POST", "path": path}
    done = request_context(model="m", stages=Stages(decode=0.0012), traceparent="00-aa-bb-01")
    logs.RequestLog(level, form, writer).write(scope, done, 200, 0.0034)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        return stream.read()


def test_a_request_is_one_line_in_either_form() -> None:
    line = orjson.loads(written("json", "info"))
    assert (line["request_id"], line["status"], line["duration_ms"], line["decode_ms"]) == ("req_1", 200, 3.4, 1.2)
    assert line["traceparent"] == "00-aa-bb-01"
    assert b"200 POST /v1/classify 3.4 ms m\n" in written("console", "info")


def test_what_a_client_sends_cannot_forge_a_line() -> None:
    assert written("console", "info", "/v1/a\nERROR forged\x1b[2J").count(b"\n") == 1
    assert b"\x1b" not in written("console", "info", "/v1/a\x1b[2J")
    assert written("json", "info", "/v1/a\nforged").count(b"\n") == 1


def test_the_level_decides_which_requests_are_told() -> None:
    assert written("json", "warning") == b""
    assert written("json", "info", "/healthz") == b""
    assert written("json", "debug", "/healthz") != b""
