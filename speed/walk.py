"""The walk of one image request through our own files, as it is run: ``python -m speed.walk [--labels a,b] [--calls]``.

A gateway in this process answers ``POST /v1/classify`` once to warm up and once while every call is watched, from the
socket to the socket. Printed are the rooms in the order in which they are first entered, with the files of each in the
order in which a function of theirs is first called; those that are handed the picture, in any of its forms, are bold.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import inspect
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import orjson
import uvicorn

from services.media.image import Picture
from speed import tiny
from speed.against.data import unpacked

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("sightline", "gateway", "services", "models")
CLOSED, OPEN = "tiny-classifier", "tiny-open"
"""Models of the kept data directory: one with labels of its own, one that is given some."""
LARGE = 3_000
"""Characters, bytes or numbers: the picture has more, in every form from base64 to the tensor, and nothing else has."""


@dataclass(slots=True)
class Walk:
    """Paths are relative to the checkout, in the order in which they were first entered.

    ``carriers`` are those of ``files`` that a function of was handed the picture: as text, bytes, pixels or tensor.
    ``steps`` are the calls that went from one file to another, as (from, to).
    """

    files: list[str] = field(default_factory=list)
    carriers: list[str] = field(default_factory=list)
    steps: list[tuple[str, str]] = field(default_factory=list)
    calls: int = 0

    def entries(self, name: str) -> int:
        """Calls into a room from another."""
        return sum(room(to) == name != room(origin) for origin, to in self.steps)


def visits(files: list[str]) -> list[tuple[str, list[str]]]:
    """Rooms with the names of the files that were first entered there; a room that was left may come again."""
    found: list[tuple[str, list[str]]] = []
    for file in files:
        if not found or found[-1][0] != room(file):
            found.append((room(file), []))
        found[-1][1].append(Path(file).name)
    return found


def room(file: str) -> str:
    """The folder of a file."""
    return str(Path(file).parent)


class Watcher:
    """A profile function for every thread, which takes note while ``watching``."""

    def __init__(self) -> None:
        self.watching = False
        self.walk = Walk()
        self._known: dict[str, str | None] = {}
        self._begun: list[FrameType] = []

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or not self.watching:
            return
        file = self._ours(frame.f_code.co_filename)
        if file is None or self._goes_on(frame):
            return
        walk = self.walk
        walk.calls += 1
        if file not in walk.files:
            walk.files.append(file)
        if file not in walk.carriers and any(map(holds_picture, frame.f_locals.values())):
            walk.carriers.append(file)
        origin = next((known for known in map(self._ours, _callers(frame)) if known), "")
        if origin != file:
            walk.steps.append((origin, file))

    def _goes_on(self, frame: FrameType) -> bool:
        """Whether a coroutine or generator is resumed, which is told as a call too."""
        if any(frame is begun for begun in self._begun):
            return True
        if frame.f_code.co_flags & (inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
            self._begun.append(frame)
        return False

    def _ours(self, name: str) -> str | None:
        if name not in self._known:
            path = Path(name)
            inside = path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in FLOORS
            self._known[name] = str(path.relative_to(ROOT)) if inside else None
        return self._known[name]


def holds_picture(value: Any, depth: int = 3) -> bool:
    """Whether an argument is the picture in any of its forms, or has it within."""
    if isinstance(value, str | bytes | bytearray | memoryview):
        return len(value) > LARGE
    if isinstance(value, np.ndarray):
        return bool(value.size > LARGE)
    if isinstance(value, Picture):
        return True
    if depth == 0:
        return False
    if isinstance(value, Mapping):
        return any(holds_picture(one, depth - 1) for one in value.values())
    if isinstance(value, list | tuple):
        return any(holds_picture(one, depth - 1) for one in value[:8])
    if (
        is_dataclass(value)
        and not isinstance(value, type)
        and type(value).__module__.startswith(("services.", "gateway."))
    ):
        return any(holds_picture(getattr(value, one.name, None), depth - 1) for one in fields(value))
    return False


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
    for name, files in visits(seen.files):
        shown = [f"**`{file}`**" if f"{name}/{file}" in seen.carriers else f"`{file}`" for file in files]
        print(f"| `{name}/` | {', '.join(shown)} | {seen.entries(name)} |")
    rooms = set(map(room, seen.files))
    print(f"\n{len(seen.files)} files of {len(rooms)} rooms, {seen.calls} calls of our own functions.")
    order = ", ".join(name for name, _ in visits(seen.carriers))
    print(f"The picture is handed to {len(seen.carriers)} files (bold), by rooms: {order}.")
    if options.calls:
        print("\n".join(f"{origin or 'the server'} -> {to}" for origin, to in seen.steps))
    return 0


if __name__ == "__main__":
    sys.exit(main())
