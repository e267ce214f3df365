"""``python -m speed.triton_recovery``: what ``sightline triton up`` takes, and how soon it is back after a kill.

On the models of SIGHTLINE_DATA_DIR. Kills the process of one model, then the server, ``--times`` times each, and asks
for an inference of that model until it is answered again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from models.catalog.card import Card
from models.repository.reading import latest
from services.runtime.onnx.warmup import example
from services.settings import Settings
from sightline.triton.api import encoded

REST_SECONDS = 15.0
"""Between two kills: after this the watchdog no longer takes a model for one that breaks each time it is loaded."""


class Up:
    """One ``sightline triton up``; ``start_seconds`` until it announced itself."""

    def __init__(self, data: Path, card: Card) -> None:
        self._header, self._body = encoded(example(card, 1), card)
        self._model = card.name
        began = time.perf_counter()
        argv = [sys.executable, "-m", "sightline", "triton", "up", "--port", "0", "--json", "--data-dir", str(data)]
        with tempfile.TemporaryFile() as log:
            self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self._process.stdout is not None
        self._url = json.loads(self._process.stdout.readline())["http"]
        self.start_seconds = time.perf_counter() - began

    def processes(self) -> dict[str, psutil.Process]:
        """Server, watchdog and models by name."""
        found = {"supervisor": psutil.Process(self._process.pid)}
        for child in found["supervisor"].children(recursive=True):
            try:
                argv = child.cmdline()
            except psutil.Error:  # dead, and not collected by its parent
                continue
            if argv and argv[0].endswith("/tritonserver"):
                found["tritonserver"] = child
            elif "sightline.triton" in argv:
                found["watchdog"] = child
            elif argv and argv[0].endswith("_stub"):
                found[Path(argv[1]).parents[1].name] = child
        return found

    def infer(self) -> bool:
        length = {"Inference-Header-Content-Length": str(len(self._header))}
        url = f"{self._url}/v2/models/{self._model}/infer"
        try:
            return httpx.post(url, content=self._header + self._body, headers=length, timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def recovery(self, name: str) -> float:
        """Seconds from the kill of a process to the next answer."""
        os.kill(self.processes()[name].pid, signal.SIGKILL)
        began = time.perf_counter()
        while self.infer():
            time.sleep(0.01)  # the kill has not arrived yet
        while not self.infer():
            time.sleep(0.02)
        took = time.perf_counter() - began
        time.sleep(REST_SECONDS)
        return took

    def stop(self) -> float:
        began = time.perf_counter()
        self._process.terminate()
        self._process.wait()
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m speed.triton_recovery", description=__doc__)
    parser.add_argument("--model", default="minilm-l6")
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    data = Settings().data_dir
    folder = latest(data / "models", options.model)
    if folder is None:
        sys.exit(f"{options.model} is not in {data / 'models'}")
    up = Up(data, Card.read(folder))
    try:
        up.infer()
        lines = {"start": f"{up.start_seconds:.1f} s"}
        for name, process in up.processes().items():
            lines[f"memory of {name}"] = f"{process.memory_info().rss / 2**20:.0f} MiB"
        for name in (options.model, "tritonserver"):
            times = [up.recovery(name) for _ in range(options.times)]
            spread = f"from {min(times):.1f} to {max(times):.1f}, {len(times)} times"
            lines[f"back after a kill of {name}"] = f"{statistics.median(times):.1f} s ({spread})"
    finally:
        stopped = up.stop()
    lines["stop"] = f"{stopped:.1f} s"
    for what, value in lines.items():
        print(f"{what:<36} {value}")


if __name__ == "__main__":
    main()
