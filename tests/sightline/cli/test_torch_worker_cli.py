"""``sightline torch-worker`` as gateways of other machines meet it: over TCP, with a token."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import WorkerStatus
from services.settings import Settings
from tests.support import torch_programs
from tests.support.serving import alive, children, eventually

pytestmark = pytest.mark.timeout(240)

TOKEN = "a-token-of-both-sides"


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def command(settings: Settings, *arguments: str, token: str | None = TOKEN) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-m", "sightline", "torch-worker", "--data-dir", str(settings.data_dir), *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")}
    if token is not None:
        environment["SIGHTLINE_TORCH_TOKEN"] = token
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with (
        (settings.data_dir / "torch.log").open("w") as out,
        subprocess.Popen(argv, env=environment, stdout=out, stderr=out) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def started(backend: OnnxBackend) -> float:
    status = backend.torch_worker
    return status.started if isinstance(status, WorkerStatus) and status.up else 0.0


def reason(backend: OnnxBackend) -> str:
    return next(status.reason for status in backend.index() if status.name == "tiny-flow")


async def until(backend: OnnxBackend, after: float = 0.0) -> float:
    """Wait for a worker that started later than ``after``; when it did."""
    async with asyncio.timeout(120):
        while started(backend) <= after:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return started(backend)


async def test_a_gateway_uses_it_over_tcp_and_finds_it_again_after_its_death(settings: Settings, port: int) -> None:
    torch_programs.add_latent(settings.models_dir)
    where = {"torch_url": f"127.0.0.1:{port}", "torch_token": TOKEN}
    backend = OnnxBackend(settings.model_copy(update=where))
    with command(settings, "--port", str(port)) as process:
        await backend.start()
        try:
            first = await until(backend)
            assert "there is no program 'latent'" in reason(backend)  # the worker's own word: its programs are others

            (worker,) = children(process.pid)
            os.kill(worker, signal.SIGKILL)
            assert await until(backend, after=first) > first
        finally:
            await backend.close()
        (worker,) = children(process.pid)
        process.terminate()
        assert process.wait(90) == 0
        eventually(lambda: not alive(worker), 20)


async def test_a_gateway_with_another_token_is_refused(settings: Settings, port: int) -> None:
    torch_programs.add_latent(settings.models_dir)
    where = {"torch_url": f"127.0.0.1:{port}", "torch_token": "another-token-altogether"}
    backend = OnnxBackend(settings.model_copy(update=where))
    with command(settings, "--port", str(port)):
        await backend.start()
        try:
            async with asyncio.timeout(120):
                while "SIGHTLINE_TORCH_TOKEN" not in reason(backend):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            assert not started(backend)
        finally:
            await backend.close()
    assert TOKEN not in (settings.data_dir / "torch.log").read_text()


@pytest.mark.parametrize(
    ("host", "token", "told"),
    [("0.0.0.0", None, "SIGHTLINE_TORCH_TOKEN"), ("127.0.0.1", TOKEN, "Name another --host or --port")],
)
def test_what_is_wrong_is_said_at_once(settings: Settings, host: str, token: str | None, told: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = ("--host", host, "--port", str(taken.getsockname()[1]))
        with command(settings, *where, token=token) as process:
            assert process.wait(90) == 1
    assert told in (settings.data_dir / "torch.log").read_text()
