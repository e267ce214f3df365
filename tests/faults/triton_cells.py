"""What is done to Triton servers under load, and what clients of the gateway see of it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from services.settings import Settings
from tests.support import tiny_models
from tests.support.server import Server, serving
from tests.support.serving import eventually
from tests.support.triton_server import TritonServer, triton

USERS = 32
DEADLINE = 8.0
MODEL = "tiny-adder"
BODY = {"inputs": [{"name": name, "datatype": "FP32", "shape": [1, 4], "data": [2] * 4} for name in "ab"]}


@dataclass(frozen=True, slots=True)
class Seen:
    """One request of one client: when its answer came, and what it was. Status 0: the connection broke."""

    at: float
    status: int
    seconds: float
    right: bool = False
    retry_after: bool = False


class House:
    """A gateway over ``replicas`` Triton servers, and clients that never stop asking."""

    def __init__(self, server: Server, replicas: list[TritonServer], settings: Settings) -> None:
        self.server = server
        self.replicas = replicas
        self.settings = settings
        self.seen: list[Seen] = []

    def add_version(self, version: int) -> None:
        """Put a new version into the repository and load it; it answers sums that are ``version`` larger."""
        tiny_models.add_adder(self.settings.models_dir, version=str(version), offset=version)
        answer = httpx.post(f"{self.server.url}/v2/repository/models/{MODEL}/load", timeout=60)
        assert answer.status_code == 200, answer.text

    def serving_at(self) -> set[str]:
        """The Triton servers that the gateway sends requests to now."""
        return set(httpx.get(f"{self.server.url}/v1/models/{MODEL}", timeout=10).json()["providers"])

    def await_whole(self, seconds: float = 20) -> float:
        """Wait until the gateway uses every server again; how long that took."""
        begin = time.monotonic()
        addresses = {replica.grpc for replica in self.replicas}
        eventually(lambda: self.serving_at() == addresses, seconds)
        return time.monotonic() - begin

    @contextmanager
    def load(self) -> Iterator[None]:
        """Ask with ``USERS`` clients at once, until left."""
        stop = threading.Event()
        self.seen = []
        thread = threading.Thread(target=lambda: asyncio.run(self._ask(stop)))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    async def _ask(self, stop: threading.Event) -> None:
        url = f"{self.server.url}/v2/models/{MODEL}/infer"
        limits = httpx.Limits(max_connections=USERS, max_keepalive_connections=USERS)
        async with httpx.AsyncClient(limits=limits, timeout=DEADLINE + 10) as http:

            async def use() -> None:
                while not stop.is_set():
                    began = time.monotonic()
                    try:
                        answer = await http.post(url, json=BODY)
                    except httpx.TransportError:
                        self.seen.append(Seen(time.monotonic(), 0, time.monotonic() - began))
                        continue
                    now = time.monotonic()
                    right = False
                    if answer.status_code == 200:
                        told = answer.json()
                        right = told["outputs"][0]["data"] == [4.0 + int(told["model_version"])] * 4
                    retry = "retry-after" in answer.headers
                    self.seen.append(Seen(now, answer.status_code, now - began, right, retry))
                    if answer.status_code == 503:
                        await asyncio.sleep(0.05)

            await asyncio.gather(*(use() for _ in range(USERS)))


@contextmanager
def house(folder: Path, replicas: int, *, workers: int = 1) -> Iterator[House]:
    """Everything started and ready, with the first version of the model loaded everywhere."""
    settings = Settings(data_dir=folder / "data", log_level="warning", deadline=DEADLINE, workers=workers)
    tiny_models.add_adder(settings.models_dir, offset=1)
    with ExitStack() as stack:
        with ThreadPoolExecutor(replicas) as together:
            starting = [together.submit(stack.enter_context, triton(settings.models_dir)) for _ in range(replicas)]
            servers = [one.result() for one in starting]
        settings = settings.model_copy(
            update={"runtime": "triton", "triton_urls": tuple(server.grpc for server in servers)}
        )
        running = stack.enter_context(serving(settings, folder, workers=workers))
        made = House(running, servers, settings)
        made.await_whole()
        yield made


def killed(house: House) -> float:
    """kill -9 of a server, started again after two seconds."""
    house.replicas[0].kill()
    time.sleep(2)
    house.replicas[0].start()
    return house.await_whole()


def gone(house: House) -> float:
    """kill -9 of a server that nobody starts again while clients ask."""
    house.replicas[0].kill()
    time.sleep(4)
    return 0.0


def stub_killed(house: House) -> float:
    """kill -9 of a model's process, which only the gateway repairs."""
    [stub] = house.replicas[0].stubs(MODEL)
    os.kill(stub, signal.SIGKILL)
    eventually(lambda: len(house.serving_at()) < len(house.replicas))
    return house.await_whole()


def stopped(house: House) -> float:
    """SIGSTOP of a server for five seconds: connections stay, answers do not come."""
    house.replicas[0].pause()
    time.sleep(5)
    house.replicas[0].resume()
    return house.await_whole()


def slow(house: House) -> float:
    """A model's process that gets the processor for 5 ms of every 100."""
    [stub] = house.replicas[0].stubs(MODEL)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        os.kill(stub, signal.SIGSTOP)
        time.sleep(0.095)
        os.kill(stub, signal.SIGCONT)
        time.sleep(0.005)
    return house.await_whole()


def updated(house: House) -> float:
    """Two new versions, one after the other."""
    first = 1 + max(int(path.name) for path in (house.settings.models_dir / MODEL).glob("[0-9]*"))
    for version in (first, first + 1):
        house.add_version(version)
        time.sleep(0.5)
    return house.await_whole()


@dataclass(frozen=True, slots=True)
class Cell:
    """A fault, and whether clients may notice: with one server they may, with two never."""

    fault: Callable[[House], float]
    replicas: int
    workers: int = 1

    @property
    def name(self) -> str:
        return f"{(self.fault.__doc__ or '').partition('.')[0]}, {self.replicas} server{'s' * (self.replicas > 1)}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """``back``: seconds from the end of the fault until the gateway used every server again."""

    name: str
    seen: list[Seen]
    back: float

    @property
    def failures(self) -> list[Seen]:
        """Everything but right answers and refusals that say when to come again."""
        return [one for one in self.seen if not one.right and not (one.status == 503 and one.retry_after)]

    @property
    def refused(self) -> list[Seen]:
        return [one for one in self.seen if one.status == 503]

    @property
    def longest(self) -> float:
        return max(one.seconds for one in self.seen)

    def row(self) -> str:
        refused = sorted(one.seconds for one in self.refused)
        middle = f", p50 {refused[len(refused) // 2] * 1e3:.0f} ms" if refused else ""
        return (
            f"| {self.name} | {len(self.seen)} | {len(self.failures)} | {len(refused)}{middle} "
            f"| {self.longest:.2f} s | {self.back:.1f} s |"
        )


CELLS = (
    Cell(killed, 2),
    Cell(stub_killed, 2),
    Cell(stopped, 2),
    Cell(slow, 2),
    Cell(updated, 2, workers=2),
    Cell(gone, 2),
    Cell(killed, 1),
    Cell(stub_killed, 1),
    Cell(stopped, 1),
    Cell(updated, 1),
)


def play(cell: Cell, house: House) -> Outcome:
    """Let clients ask, do the harm, and see what they got."""
    with house.load():
        time.sleep(1)
        back = cell.fault(house)
        time.sleep(1)
    return Outcome(cell.name, house.seen, back)
