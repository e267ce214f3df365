"""``python -m sightline.triton``: the watchdog of a tritonserver that the parent process supervises."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client import start_http_server

from gateway import logs
from services.runtime.repository import Repository
from services.settings import Settings
from sightline.triton.api import Api
from sightline.triton.watchdog import PROBE_SECONDS, Watchdog
from sightline.triton.watched import Watched

FOLLOW_SECONDS = 0.25


class Parent:
    """The process that supervises the server: its children are looked through for it, and the server's for models."""

    def __init__(self, binary: str, watched: Watched) -> None:
        self._parent = os.getppid()
        self._binary = binary
        self._watched = watched
        self._last: int | None = None
        self._known: set[int] = set()

    def server(self) -> int | None:
        """The server's process id now; a new one is a restart."""
        found = next((pid for pid in _children(self._parent) if _arguments(pid)[0] == self._binary), None)
        if found is not None and self._last is not None and found != self._last:
            self._watched.restarted()
        self._last = found or self._last
        return found

    def kill_server(self) -> None:
        pid = self.server()
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stubs(self, model: str) -> set[int]:
        """The living processes of a model; each has the path of its version's folder among its arguments."""
        return {pid for pid in self._living() if f"/{model}/" in " ".join(_arguments(pid)[1:2])}

    def _living(self) -> set[int]:
        return set() if self._last is None else {pid for pid in _children(self._last) if _runs(pid)}

    async def follow(self, hurry: asyncio.Event) -> None:
        """Notice restarts, and ask for a look when a process of a model is gone: it may have been unloaded, or died."""
        while True:
            self.server()
            stubs = self._living()
            if self._known - stubs:
                hurry.set()
            self._known = stubs
            await asyncio.sleep(FOLLOW_SECONDS)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _runs(pid: int) -> bool:
    """Return whether it does: a dead one that its parent has not collected is still listed."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def _arguments(pid: int) -> list[str]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return [""]


async def watch(options: argparse.Namespace, settings: Settings) -> None:
    """Until told to stop; raises what went wrong, so that this process is started again."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    hurry = asyncio.Event()
    watched = Watched(options.region)
    parent = Parent(options.binary, watched)
    api = Api(options.url, PROBE_SECONDS)
    watchdog = Watchdog(api, Repository(settings.models_dir), watched, parent)
    follower = asyncio.create_task(parent.follow(hurry))
    await watchdog.look()
    # Whoever can read the metrics finds the first look in them.
    exporter, thread = start_http_server(options.metrics_port, options.host, registry=watched.registry)
    looking = asyncio.create_task(watchdog.run(hurry))
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(stop.wait()), looking, follower]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()

    exporter.shutdown()
    thread.join()
    await api.close()
    for task in done:
        task.result()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sightline.triton", description=__doc__)
    parser.add_argument("--binary", required=True, help="the server's program, as its supervisor starts it")
    parser.add_argument("--url", required=True, help="the server's HTTP address")
    parser.add_argument("--region", required=True, help="how the names of its shared memory begin")
    parser.add_argument("--host", default="127.0.0.1", help="address of the watchdog's metrics")
    parser.add_argument("--metrics-port", type=int, required=True)
    options = parser.parse_args(arguments)
    settings = Settings()
    logs.configure(settings.log_level, settings.log_format)
    asyncio.run(watch(options, settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
