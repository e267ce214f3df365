"""Starts the real platform for the demo, on a free port and an empty data directory, and stops it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from services.settings import Settings
from sightline.demo.stage import Wrong
from sightline.launcher.rundir import read_server

START_SECONDS = 180.0
STOP_SECONDS = 60.0


@contextmanager
def running(models: Path, runtime: str = "onnx") -> Iterator[str]:
    """The address of a platform that serves the repository ``models``; raises :class:`Wrong` unless it stops cleanly.

    Its data directory is its own, so that a server of the user's may go on beside it, and what the demo trains goes
    away with it. The models are linked into it file by file: no bytes are copied, and none of the user's change. With
    ``runtime`` ``triton`` they run in a tritonserver beside it.
    """
    with tempfile.TemporaryDirectory(prefix="demo-", dir=models.parent) as folder, ExitStack() as stack:
        data = Path(folder)
        shutil.copytree(models, data / "models", copy_function=os.link, ignore=shutil.ignore_patterns(".*"))
        environment = stack.enter_context(_triton(data)) if runtime == "triton" else {}
        serve = ["serve", "--port", "0", "--data-dir", folder, "--log-format", "json"]
        log = data / "log"
        process = stack.enter_context(_program("the platform", serve, log, environment))
        yield _await_ready(process, Settings(data_dir=data).run_dir, log)


@contextmanager
def _triton(data: Path) -> Iterator[dict[str, str]]:
    """A tritonserver for the models of ``data``; the settings that make the platform use it."""
    log, told = data / "triton.log", data / "triton.json"
    arguments = ["triton", "up", "--port", "0", "--data-dir", str(data), "--json"]
    with told.open("wb") as out, _program("tritonserver", arguments, log, {}, out) as process:
        end = time.monotonic() + START_SECONDS
        while not (text := told.read_text()).endswith("\n"):
            if process.poll() is not None or time.monotonic() > end:
                raise Wrong(f"tritonserver did not start:\n{_last_words(log)}")
            time.sleep(0.05)
        yield {"SIGHTLINE_RUNTIME": "triton", "SIGHTLINE_TRITON_URLS": json.dumps([json.loads(text)["grpc"]])}


@contextmanager
def _program(
    name: str, arguments: list[str], log: Path, environment: dict[str, str], out: IO[bytes] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A command of the platform as a process, whose words go to ``log``; it must stop cleanly at the end."""
    argv = [sys.executable, "-m", "sightline", *arguments]
    with log.open("wb") as words:
        process = subprocess.Popen(
            argv, stdout=out or words, stderr=words, stdin=subprocess.DEVNULL, env={**os.environ, **environment}
        )

    try:
        yield process
    except BaseException:
        process.kill()
        process.wait()
        raise

    _stop(name, process, log)


def _await_ready(process: subprocess.Popen[bytes], run_dir: Path, log: Path) -> str:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        info = read_server(run_dir)
        if info is not None:
            return info.url
        if process.poll() is not None:
            raise Wrong(f"the platform did not start:\n{_last_words(log)}")
        time.sleep(0.05)
    raise Wrong(f"the platform was not ready within {START_SECONDS:g} s:\n{_last_words(log)}")


def _stop(name: str, process: subprocess.Popen[bytes], log: Path) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise Wrong(f"{name} did not stop within {STOP_SECONDS:g} s:\n{_last_words(log)}") from None
    if code != 0:
        raise Wrong(f"{name} ended with exit code {code}:\n{_last_words(log)}")


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace")[-4000:]
