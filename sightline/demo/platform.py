"""Starts the real platform for the demo, on a free port and an empty data directory, and stops it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.settings import Settings
from sightline.demo.stage import Wrong
from sightline.rundir import read_server

START_SECONDS = 180.0
STOP_SECONDS = 60.0


@contextmanager
def running(models: Path) -> Iterator[str]:
    """The address of a platform that serves the repository ``models``; raises :class:`Wrong` unless it stops cleanly.

    Its data directory is its own, so that a server of the user's may go on beside it, and what the demo trains goes
    away with it. The models are linked into it file by file: no bytes are copied, and none of the user's change.
    """
    with tempfile.TemporaryDirectory(prefix="demo-", dir=models.parent) as folder:
        data = Path(folder)
        shutil.copytree(models, data / "models", copy_function=os.link, ignore=shutil.ignore_patterns(".*"))
        log = data / "log"
        argv = [sys.executable, "-m", "sightline", "serve", "--port", "0", "--data-dir", folder, "--log-format", "json"]
        with log.open("wb") as out:
            process = subprocess.Popen(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        try:
            yield _await_ready(process, Settings(data_dir=data).run_dir, log)
        except BaseException:
            process.kill()
            process.wait()
            raise
        _stop(process, log)


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


def _stop(process: subprocess.Popen[bytes], log: Path) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise Wrong(f"the platform did not stop within {STOP_SECONDS:g} s:\n{_last_words(log)}") from None
    if code != 0:
        raise Wrong(f"the platform ended with exit code {code}:\n{_last_words(log)}")


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace")[-4000:]
