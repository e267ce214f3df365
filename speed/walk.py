"""The walk of one image request through our own files, as it is run: ``python -m speed.walk [--labels a,b] [--calls]``.

A gateway in this process answers ``POST /v1/classify`` once to warm up and once while every call is watched, from the
socket to the socket. Printed are the rooms in the order in which they are first entered, with the files of each in the
order in which a function of theirs is first called.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import orjson
import uvicorn

from speed import tiny
from speed.against.data import unpacked

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("sightline", "gateway", "services", "models")
CLOSED, OPEN = "tiny-classifier", "tiny-open"
"""Models of the kept data directory: one with labels of its own, one that is given some."""


@dataclass(slots=True)
class Walk:
    """``steps`` are the calls that went from one file to another, as (from, to), paths relative to the checkout."""

    files: list[str] = field(default_factory=list)
    steps: list[tuple[str, str]] = field(default_factory=list)
    calls: int = 0

    @property
    def visits(self) -> list[tuple[str, list[str]]]:
        """Rooms with the files that were first entered there; a room comes again where a file of it comes later."""
        found: list[tuple[str, list[str]]] = []
        for file in self.files:
            if not found or found[-1][0] != room(file):
                found.append((room(file), []))
            found[-1][1].append(Path(file).name)
        return found

    def entries(self, name: str) -> int:
        """Calls into a room from another."""
        return sum(room(to) == name != room(origin) for origin, to in self.steps)


def room(file: str) -> str:
    """The folder of a file."""
    return str(Path(file).parent)


class Watcher:
    """A profile function for every thread, which takes note while ``watching``."""

    def __init__(self) -> None:
        self.watching = False
        self.walk = Walk()
        self._known: dict[str, str | None] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or not self.watching:
            return
        file = self._ours(frame.f_code.co_filename)
        if file is None:
            return
        self.walk.calls += 1
        if file not in self.walk.files:
            self.walk.files.append(file)
        origin = next((known for known in map(self._ours, _callers(frame)) if known), "")
        if origin != file:
            self.walk.steps.append((origin, file))

    def _ours(self, name: str) -> str | None:
        if name not in self._known:
            path = Path(name)
            inside = path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in FLOORS
            self._known[name] = str(path.relative_to(ROOT)) if inside else None
        return self._known[name]


def _callers(frame: FrameType) -> Iterator[str]:
    above = frame.f_back
    while above is not None:
        yield above.f_code.co_filename
        above = above.f_back


def walk(folder: Path, labels: list[str] | None = None) -> Walk:
    """Watch one request, with ``labels`` or for a classifier's own; ``folder`` is for the data directory."""
    watcher = Watcher()
    threading.setprofile(watcher)  # for the pools, whose threads start on the way
    sys.setprofile(watcher)
    try:
        asyncio.run(_request(watcher, folder, labels))
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return watcher.walk


async def _request(watcher: Watcher, folder: Path, labels: list[str] | None) -> None:
    from gateway.app import create_app
    from gateway.http_protocol import BoundedProtocol
    from services.settings import Settings

    data, keys = unpacked(folder)
    app = create_app(Settings(data_dir=data, log_level="warning", port=0))
    config = uvicorn.Config(app, loop="asyncio", http=BoundedProtocol, ws="none", lifespan="on", log_config=None)
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        for watching in (False, True):
            watcher.watching = watching
            await _ask(reader, writer, keys["user"], labels)
        watcher.watching = False
        writer.close()
        server.should_exit = True
        await serving


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: str, labels: list[str] | None
) -> None:
    image = base64.b64encode(tiny.picture()).decode()
    body = orjson.dumps(
        {"model": OPEN, "labels": labels, "image": image} if labels else {"model": CLOSED, "image": image}
    )
    head = f"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200"), answer
    length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length"))
    await reader.readexactly(int(length.partition(b":")[2]))


def main() -> int:
    parser = argparse.ArgumentParser(prog="speed.walk", description=__doc__)
    parser.add_argument("--labels", default="", help="of an open-vocabulary model; a classifier's own when absent")
    parser.add_argument("--calls", action="store_true", help="print every call from one file to another as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="walk-") as folder:
        seen = walk(Path(folder), options.labels.split(",") if options.labels else None)
    print("| room | files, in the order of their first call | calls into it |\n|---|---|---|")
    told = set()
    for name, files in seen.visits:
        again = "again" if name in told else str(seen.entries(name))
        told.add(name)
        print(f"| `{name}/` | {', '.join(f'`{file}`' for file in files)} | {again} |")
    print(f"\n{len(seen.files)} files in {len(told)} rooms, {seen.calls} calls of our own functions.")
    if options.calls:
        print("\n".join(f"{origin or 'the server'} -> {to}" for origin, to in seen.steps))
    return 0


if __name__ == "__main__":
    sys.exit(main())
