"""``sightline triton up`` as a process: it announces itself, repairs what is killed, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from models.catalog.card import Card
from sightline.triton.api import encoded
from tests.support import tiny_models
from tests.support.serving import ROOT, children, command, eventually

pytestmark = pytest.mark.timeout(120)

RECOVERY_SECONDS = 10.0
BUSY = 2.0
"""Tests share their processors with others: what is promised of a machine of one's own takes longer."""


class Up:
    """One ``sightline triton up`` over two tiny models."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.log = folder / "log"
        models = self.data / "models"
        tiny_models.add_adder(models)
        tiny_models.add_text_encoder(models)
        # An older release wrote another one.
        (models / "tiny-adder" / "config.pbtxt").write_text('name: "tiny-adder"\nbackend: "onnxruntime"\n')
        self.card = Card.read(models / "tiny-adder" / "1")
        argv = [
            sys.executable,
            "-m",
            "sightline",
            "triton",
            "up",
            "--port",
            "0",
            "--data-dir",
            str(self.data),
            "--json",
        ]
        with self.log.open("wb") as err:
            self.process = subprocess.Popen(
                argv,
                cwd=folder,  # anywhere: Python would find the platform's modules in the checkout by chance
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.said
        self.where: dict[str, str] = json.loads(line)

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")[-6000:]

    @property
    def server(self) -> int:
        return next(pid for pid in children(self.process.pid) if "bin/tritonserver" in command(pid).split(" ")[0])

    def stub(self, model: str) -> int:
        return next(pid for pid in children(self.server) if f"/{model}/" in command(pid))

    def answers(self) -> bool:
        ones = np.ones((1, 4), np.float32)
        header, body = encoded({"a": ones, "b": ones}, self.card)
        length = {"Inference-Header-Content-Length": str(len(header))}
        url = f"{self.where['http']}/v2/models/tiny-adder/infer"
        try:
            return httpx.post(url, content=header + body, headers=length, timeout=3).status_code == 200
        except httpx.HTTPError:
            return False

    def metric(self, name: str) -> float | None:
        for line in httpx.get(self.where["watchdog"], timeout=5).text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        return None

    def recovers(self) -> float:
        began = time.monotonic()
        eventually(self.answers, RECOVERY_SECONDS * BUSY)
        return time.monotonic() - began

    @property
    def regions(self) -> list[str]:
        port = self.where["grpc"].rpartition(":")[2]
        return [path.name for path in Path("/dev/shm").glob(f"sightline_triton_{port}_*")]


READY = 'sightline_model_ready{model="tiny-adder",version="1"}'
REPAIRS = 'sightline_triton_repairs_total{model="tiny-adder"}'


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    made = Up(tmp_path_factory.mktemp("up"))
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
            made.process.wait()


def test_it_announces_itself_when_every_model_was_tried(up: Up) -> None:
    assert up.where["device"] == "cpu" and up.where["runs"] == "python"
    assert up.metric(READY) == 1.0 and up.metric("sightline_triton_up") == 1.0
    assert up.answers()


def test_a_configuration_of_an_older_release_was_written_again(up: Up) -> None:
    text = (up.data / "models" / "tiny-adder" / "config.pbtxt").read_text()
    assert "KIND_AUTO" in text and "max_batch_size: 8" in text


def test_a_model_whose_process_was_killed_is_loaded_anew(up: Up) -> None:
    os.kill(up.stub("tiny-adder"), signal.SIGKILL)
    assert not up.answers()
    up.recovers()
    eventually(lambda: up.metric(READY) == 1.0 and up.metric(REPAIRS) == 1.0, 5)
    assert "was loaded anew" in up.said


def test_a_server_that_was_killed_is_started_again(up: Up) -> None:
    before = up.server
    os.kill(before, signal.SIGKILL)
    up.recovers()
    assert up.server != before
    eventually(lambda: up.metric("sightline_triton_restarts_total") == 1.0 and up.metric(READY) == 1.0, 10)
    # What the dead one had in shared memory is gone: each model of the new one has a region.
    eventually(lambda: len(up.regions) == 2, 20)


def test_a_server_that_was_paused_goes_on(up: Up) -> None:
    before = up.server
    os.kill(before, signal.SIGSTOP)
    try:
        eventually(lambda: up.metric(READY) == 0.0, 20)
    finally:
        os.kill(before, signal.SIGCONT)
    up.recovers()
    assert up.server == before
    eventually(lambda: up.metric(READY) == 1.0, 10)


def test_a_model_that_was_unloaded_on_request_is_left_alone(up: Up) -> None:
    url = f"{up.where['http']}/v2/repository/models/tiny-text"
    assert httpx.post(f"{url}/unload", json={}, timeout=10).status_code == 200
    ready = 'sightline_model_ready{model="tiny-text",version="1"}'
    eventually(lambda: (value := up.metric(ready)) is not None and value != value, 15)
    assert httpx.post(f"{url}/load", json={}, timeout=30).status_code == 200
    eventually(lambda: up.metric(ready) == 1.0, 10)


def test_told_to_stop_it_leaves_nothing_behind(up: Up) -> None:
    family = [up.process.pid, *children(up.process.pid)]
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(40) == 0, up.said
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family), 10)
    assert not up.regions
    assert not list((up.data / "run").iterdir())
