"""The servers of the benchmark: how each is started, and what is sent to it."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from speed import tiny
from speed.loadgen import Point, Request, measure

ROOT = Path(__file__).parents[1]
START_SECONDS = 90


@dataclass(frozen=True)
class Setting:
    """What all servers share: the network, the picture, and the class it is of."""

    folder: Path
    network: Path
    jpeg: bytes
    answer: int

    @staticmethod
    def make(folder: Path) -> Setting:
        network, jpeg = folder / "tiny.onnx", tiny.picture()
        tiny.write_network(network)
        return Setting(folder, network, jpeg, tiny.right_answer(network, jpeg))


@dataclass(frozen=True)
class Server:
    """A command with ``{port}`` in it. ``requests`` are what is measured against it, by row name."""

    name: str
    argv: Sequence[str]
    requests: dict[str, Request]
    environment: dict[str, str] = field(default_factory=dict)
    ours: bool = False


def sightline(setting: Setting, workers: int) -> Server:
    """The platform with the tiny network imported, every check on, as ``sightline serve`` starts it."""
    from models.catalog.geometry import ImagePreprocess
    from models.intake.importing import import_onnx

    data = setting.folder / f"sightline-{workers}"
    if not data.exists():
        labels = setting.folder / "labels.txt"
        labels.write_text("".join(f"{index}\n" for index in range(tiny.CLASSES)))
        spec = ImagePreprocess(size=tiny.SIZE, resize=tiny.SIZE, mean=tiny.MEAN, std=tiny.STD)
        import_onnx(setting.network, "tiny", "classify", data / "models", labels=labels, preprocess=spec)
    argv = [sys.executable, "-m", "sightline", "serve", "--port", "{port}", "--workers", str(workers)]
    argv += ["--data-dir", str(data), "--log-format", "json", "--log-level", "warning"]
    image = base64.b64encode(setting.jpeg).decode()
    expect = f'"predictions":[{{"label":"{setting.answer}"'.encode()
    name = f"Sightline, {workers} process{'es' if workers > 1 else ''}"
    requests = {
        name: Request(
            "/v1/classify", json.dumps({"model": "tiny", "image": image}).encode(), "application/json", expect
        ),
        f"{name}, raw image/jpeg": Request("/v1/classify?model=tiny", setting.jpeg, "image/jpeg", expect),
        f"{name}, OIP binary tensor": _oip(setting),
    }
    # Peers have no jobs: what those need beside the gateways would only blur the memory column.
    return Server(name, argv, requests, {"SIGHTLINE_JOBS": "false"}, ours=True)


def _oip(setting: Setting) -> Request:
    """The ready-made tensor in the binary form of the Open Inference Protocol, 602 kB."""
    data = tiny.tensor(setting.jpeg).tobytes()
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "image",
                    "shape": [1, 3, tiny.SIZE, tiny.SIZE],
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": len(data)},
                }
            ],
            "outputs": [{"name": "logits", "parameters": {"classification": 5}}],
        }
    ).encode()
    headers = (("Inference-Header-Content-Length", str(len(head))),)
    expect = f":{setting.answer}:{setting.answer}".encode()  # value:index:label
    return Request("/v2/models/tiny/infer", head + data, "application/octet-stream", expect, headers)


def peers(setting: Setting, preprocessing: str) -> list[Server]:
    """FastAPI and LitServe in the forms that their users choose between."""
    suffix = "" if preprocessing == "idiomatic" else ", our preprocessing"
    environment = {"NETWORK": str(setting.network), "PREPROCESSING": preprocessing}
    body = json.dumps({"image": base64.b64encode(setting.jpeg).decode()}).encode()
    expect = f'"labels":[{setting.answer},'.encode()

    def request(path: str) -> Request:
        return Request(path, body, "application/json", expect)

    found = []
    for processes in (1, 2):
        argv = [sys.executable, "-m", "uvicorn", "speed.peers.fastapi_server:app", "--port", "{port}"]
        argv += ["--no-access-log", "--log-level", "warning", "--workers", str(processes)]
        rows = {
            f"FastAPI {kind}, {processes} process{'es' if processes > 1 else ''}{suffix}": request(path)
            for kind, path in (("def", "/threads"), ("async def", "/loop"))
        }
        found.append(Server(f"FastAPI x{processes}{suffix}", argv, rows, environment))
    for name, workers, batch, fast in (
        ("LitServe, 1 worker", 1, 1, 0),
        ("LitServe, 2 workers, fast queue", 2, 1, 1),
        ("LitServe, 1 worker, batch 8", 1, 8, 0),
    ):
        argv = [sys.executable, "-m", "speed.peers.litserve_server", "{port}"]
        argv += [str(workers), str(batch), str(fast)]
        found.append(Server(name + suffix, argv, {name + suffix: request("/predict")}, environment))
    return found


@contextmanager
def running(server: Server, log: Path) -> Iterator[tuple[int, dict[str, Request]]]:
    """The process id and the requests with addresses, once every request has had a right answer."""
    port = free_port()
    argv = [word.replace("{port}", str(port)) for word in server.argv]
    environment = {**os.environ, **server.environment, "PYTHONPATH": str(ROOT)}
    with log.open("wb") as out:
        process = subprocess.Popen(argv, env=environment, cwd=ROOT, stdout=out, stderr=out, start_new_session=True)
    try:
        requests = {
            name: Request(f"http://127.0.0.1:{port}{r.url}", r.body, r.content_type, r.expect, r.headers)
            for name, r in server.requests.items()
        }
        for request in requests.values():
            _await_right_answer(process, request, log)
        yield process.pid, requests
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        # The whole group: some servers leave children that hold the port.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _await_right_answer(process: subprocess.Popen[bytes], request: Request, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    last = Point()
    while time.monotonic() < end and process.poll() is None:
        last = measure(request, process.pid, users=1, seconds=0.1, warm_up=0)
        if last.good and not last.failed:
            return
        time.sleep(0.2)
    seen = {status: len(times) for status, times in last.latencies.items()}
    raise SystemExit(
        f"{request.url} gives no right answer (statuses {seen}, wrong {last.wrong}, errors {dict(last.errors)}):\n"
        + log.read_text(errors="replace")[-3000:]
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
