"""A load generator for servers on this machine: one fixed request, closed or open loop, answers checked.

One keep-alive connection a user; a request costs the client about 0.1 ms of CPU, so that the server stays the
bottleneck. In a closed loop each user waits for its answer. In an open loop requests arrive as a Poisson process and
latency counts from the moment a request was due, so that waiting is not hidden (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

from speed import meter

TIMEOUT = 30.0


@dataclass(frozen=True)
class Request:
    """What is sent every time, and a part of every right answer."""

    url: str
    body: bytes
    content_type: str
    expect: bytes
    headers: tuple[tuple[str, str], ...] = ()

    def wire(self) -> bytes:
        parts = urlsplit(self.url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        head = [f"POST {path} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Type: {self.content_type}"]
        head += [f"Content-Length: {len(self.body)}", *(f"{name}: {value}" for name, value in self.headers)]
        return "\r\n".join(head).encode() + b"\r\n\r\n" + self.body


@dataclass
class Point:
    """One measurement. Latencies are seconds by status; ``cpu`` the server's seconds; memory in MiB."""

    seconds: float = 0.0
    latencies: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    sent: int = 0
    cpu: float = 0.0
    memory: float = 0.0
    memory_before: float = 0.0
    calibration: float = 0.0
    load: float = 0.0

    @property
    def good(self) -> int:
        return len(self.latencies[200])

    @property
    def rate(self) -> float:
        return self.good / self.seconds

    @property
    def cpu_ms(self) -> float:
        return self.cpu / max(1, self.good) * 1e3

    @property
    def failed(self) -> int:
        """Everything but right answers and refusals for load."""
        refused = len(self.latencies[429]) + len(self.latencies[503])
        return sum(map(len, self.latencies.values())) - self.good - refused + sum(self.errors.values()) + self.wrong

    def ms(self, quantile: float, status: int = 200) -> float:
        ordered = sorted(self.latencies[status])
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))] * 1e3 if ordered else float("nan")


class _Connection(asyncio.Protocol):
    """Keep-alive HTTP/1.1, one request in flight."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self._answer and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        at = head.find(b"\r\ncontent-length:")
        if at < 0:
            if self.transport:
                self.transport.abort()
            return
        length = int(head[at + 17 :].split(b"\r\n", 1)[0])
        stop = end + 4 + length
        if len(self._buffer) < stop:
            return
        body = bytes(self._buffer[end + 4 : stop])
        del self._buffer[:stop]
        if b"\r\nconnection: close" in head and self.transport:
            self.transport.close()
        if self._answer and not self._answer.done():
            self._answer.set_result((int(head[9:12]), body))

    def send(self, wire: bytes) -> asyncio.Future[tuple[int, bytes]]:
        assert self.transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(wire)
        return self._answer

    @property
    def usable(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()


class _User:
    """Sends the request again and again over one connection, opened anew when it breaks."""

    def __init__(self, request: Request, point: Point) -> None:
        parts = urlsplit(request.url)
        self._address = parts.hostname, parts.port
        self._wire, self._expect, self._point = request.wire(), request.expect, point
        self._connection: _Connection | None = None

    async def send(self, due: float | None = None) -> None:
        point, begin = self._point, time.perf_counter() if due is None else due
        point.sent += 1
        try:
            if self._connection is None or not self._connection.usable:
                loop = asyncio.get_running_loop()
                _, self._connection = await loop.create_connection(_Connection, *self._address)
            status, body = await asyncio.wait_for(self._connection.send(self._wire), TIMEOUT)
        except (OSError, TimeoutError) as error:
            point.errors[type(error).__name__] += 1
            self.close()
            await asyncio.sleep(0.01)
            return
        if status == 200 and self._expect not in body:
            point.wrong += 1
        else:
            point.latencies[status].append(time.perf_counter() - begin)

    def close(self) -> None:
        if self._connection is not None and self._connection.transport is not None:
            self._connection.transport.abort()
        self._connection = None


async def _closed(request: Request, point: Point, users: int, seconds: float) -> None:
    end = time.perf_counter() + seconds

    async def use() -> None:
        user = _User(request, point)
        while time.perf_counter() < end:
            await user.send()
        user.close()

    await asyncio.gather(*(use() for _ in range(users)))


async def _open(request: Request, point: Point, rate: float, users: int, seconds: float) -> None:
    arrivals: asyncio.Queue[float | None] = asyncio.Queue()
    rng = random.Random(0)

    async def use() -> None:
        user = _User(request, point)
        while (due := await arrivals.get()) is not None:
            await user.send(due)
        user.close()

    tasks = [asyncio.create_task(use()) for _ in range(users)]
    due = begin = time.perf_counter()
    while due < begin + seconds:
        if (pause := due - time.perf_counter()) > 0:
            await asyncio.sleep(pause)
        arrivals.put_nowait(due)
        due += rng.expovariate(rate)
    for _ in tasks:
        arrivals.put_nowait(None)
    await asyncio.wait(tasks, timeout=TIMEOUT + 5)


def measure(
    request: Request, pid: int, *, users: int, seconds: float, rate: float | None = None, warm_up: float = 1.0
) -> Point:
    """Load the server of process ``pid``: ``users`` in a closed loop, or ``rate`` requests a second over at most that
    many connections."""
    if warm_up:
        _run(_closed(request, Point(), min(users, 16), warm_up))
    point = Point()
    point.calibration = meter.calibrate()
    before, begin = meter.usage(pid), time.perf_counter()
    if rate is None:
        _run(_closed(request, point, users, seconds))
    else:
        _run(_open(request, point, rate, users, seconds))
    point.seconds = time.perf_counter() - begin
    after = meter.usage(pid)
    point.cpu, point.memory, point.memory_before = after.cpu - before.cpu, after.memory, before.memory
    point.load = os.getloadavg()[0]
    return point


def _run(work: Coroutine[object, object, None]) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)
