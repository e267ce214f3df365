"""A checkout of some version, driven from the outside alone: its commands, its servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 180.0
STOP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Serving:
    """A platform that is ready; ``pid`` is its launcher's."""

    url: str
    pid: int


@dataclass(frozen=True, slots=True)
class Checkout:
    """``root`` has the code and a ``.venv`` of its own."""

    root: Path

    def argv(self, *arguments: str) -> list[str]:
        return [str(self.root / ".venv/bin/python"), *arguments]

    def environment(self, **more: str) -> dict[str, str]:
        """This process's, without settings of the platform and paths of the other checkout."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SIGHTLINE_", "PYTHON"))}
        return {**kept, "PYTHONPATH": str(self.root), **more}

    def run(self, *arguments: str) -> str:
        """What its Python printed. Raises :class:`subprocess.CalledProcessError`."""
        done = subprocess.run(
            self.argv(*arguments), cwd=self.root, env=self.environment(), check=True, stdout=subprocess.PIPE
        )
        return done.stdout.decode()

    @contextmanager
    def serving(self, data: Path, log: Path, before: Sequence[str] = (), **environment: str) -> Iterator[Serving]:
        """``sightline serve`` on ``data``, told to stop at the end; ``before`` are words such as ``taskset -c 0``."""
        argv = [*before, *self.argv("-m", "sightline", "serve", "--port", "0", "--data-dir", str(data))]
        with log.open("ab") as out:
            process = subprocess.Popen(argv, cwd=self.root, env=self.environment(**environment), stdout=out, stderr=out)
        try:
            yield Serving(_address(data, process, log), process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_SECONDS)

    @contextmanager
    def triton(self, data: Path, log: Path) -> Iterator[dict[str, str]]:
        """A tritonserver for the models of ``data``; the settings that make a platform use it."""
        told = log.with_suffix(".json")
        argv = self.argv("-m", "sightline", "triton", "up", "--port", "0", "--data-dir", str(data), "--json")
        with log.open("ab") as errors, told.open("wb") as out:
            process = subprocess.Popen(argv, cwd=self.root, env=self.environment(), stdout=out, stderr=errors)
        try:
            end = time.monotonic() + START_SECONDS
            while not told.read_text().endswith("\n"):
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"no tritonserver starts:\n{log.read_text(errors='replace')[-3000:]}")
                time.sleep(0.05)
            urls = json.dumps([json.loads(told.read_text())["grpc"]])
            yield {"SIGHTLINE_RUNTIME": "triton", "SIGHTLINE_TRITON_URLS": urls}
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_SECONDS)


def _address(data: Path, process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            return str(json.loads((data / "run/server.json").read_text())["url"])
        except (OSError, ValueError):
            time.sleep(0.05)
    raise SystemExit(f"nothing serves {data}:\n{log.read_text(errors='replace')[-3000:]}")
