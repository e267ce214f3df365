"""The watchdog's decisions, about a real server, on a clock that the tests set."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from argparse import Namespace
from pathlib import Path

import pytest

from models.catalog.card import Engine
from services.runtime.repository import Repository
from services.settings import Settings
from sightline.triton.__main__ import watch
from sightline.triton.api import Api
from sightline.triton.repairing import FIRST_PAUSE, LEFT_SECONDS
from sightline.triton.watchdog import HANG_SECONDS, Watchdog
from sightline.triton.watched import Watched
from tests.support import tiny_models
from tests.support.serving import alive, eventually
from tests.support.triton_server import TritonServer


class Bench:
    """A watchdog whose clock runs ahead by ``ahead`` seconds, and that only notes whom it would kill."""

    def __init__(self, server: TritonServer, repository: Path, timeout: float = 5.0) -> None:
        self.ahead = 0.0
        self.kills = 0
        self.watched = Watched(server.region)
        self.api = Api(server.url, timeout)
        self._server = server
        self.watchdog = Watchdog(
            self.api, Repository(repository), self.watched, self, lambda: time.monotonic() + self.ahead
        )

    def kill_server(self) -> None:
        self.kills += 1

    def stubs(self, model: str) -> set[int]:
        return {pid for pid in self._server.stubs(model) if alive(pid)}

    def value(self, name: str, **labels: str) -> float | None:
        return self.watched.registry.get_sample_value(name, labels)

    def ready(self, model: str, version: str = "1") -> float | None:
        return self.value("sightline_model_ready", model=model, version=version)


async def test_every_form_of_model_can_be_tried(triton_server: TritonServer, triton_repository: Path) -> None:
    bench = Bench(triton_server, triton_repository)
    await bench.watchdog.look(hurried=True)
    for entry in await bench.api.index():
        if entry.state == "READY":
            assert bench.ready(entry.name, entry.version) == 1.0, entry
    assert bench.ready("tiny-fixed") == 1.0 and bench.ready("tiny-row") == 1.0
    await bench.api.close()


async def test_a_hanging_server_is_killed_after_a_while_and_not_before(
    triton_server: TritonServer, triton_repository: Path
) -> None:
    bench = Bench(triton_server, triton_repository, timeout=0.3)
    triton_server.pause()
    try:
        await bench.watchdog.look()
        bench.ahead = HANG_SECONDS - 2
        await bench.watchdog.look()
        assert bench.kills == 0 and bench.value("sightline_triton_up") == 0.0
        bench.ahead = HANG_SECONDS
        await bench.watchdog.look()
        assert bench.kills == 1
    finally:
        triton_server.resume()
    await bench.watchdog.look()
    assert bench.value("sightline_triton_up") == 1.0
    await bench.api.close()


async def test_nobody_is_killed_for_a_server_that_is_away(triton_repository: Path, triton_server: TritonServer) -> None:
    bench = Bench(triton_server, triton_repository)
    bench.watchdog.api = Api("http://127.0.0.1:9", 0.3)
    for _ in range(3):
        await bench.watchdog.look()
        bench.ahead += HANG_SECONDS
    assert bench.kills == 0 and bench.value("sightline_triton_up") == 0.0
    await bench.api.close()


async def test_versions_that_a_policy_chose_are_served_again_after_a_repair(
    triton_server: TritonServer, triton_repository: Path
) -> None:
    bench = Bench(triton_server, triton_repository)
    config = {**await bench.api.config("tiny-versions"), "version_policy": {"all": {}}}
    assert await bench.api.load("tiny-versions", config) == ""
    await bench.watchdog.look()
    eventually(lambda: len(triton_server.stubs("tiny-versions")) == 2)  # those before it are leaving
    first, _ = stubs = triton_server.stubs("tiny-versions")
    os.kill(first, signal.SIGKILL)
    eventually(lambda: not alive(first))
    await bench.watchdog.look(hurried=True)
    assert (bench.ready("tiny-versions", "1"), bench.ready("tiny-versions", "2")) == (1.0, 1.0)
    assert bench.value("sightline_triton_repairs_total", model="tiny-versions") == 1.0
    eventually(lambda: not set(stubs) & set(triton_server.stubs("tiny-versions")))
    assert await bench.api.load("tiny-versions") == ""
    await bench.api.close()


async def test_a_model_that_breaks_again_at_once_is_left_for_a_while(
    triton_server: TritonServer, triton_repository: Path
) -> None:
    bench = Bench(triton_server, triton_repository)
    for again in (False, True):
        (stub,) = triton_server.stubs("tiny-adder")
        os.kill(stub, signal.SIGKILL)
        eventually(lambda stub=stub: not alive(stub))  # type: ignore[misc]
        await bench.watchdog.look(hurried=True)
        if again:
            assert bench.ready("tiny-adder") == 0.0
            bench.ahead += FIRST_PAUSE
            await bench.watchdog.look(hurried=True)
        assert bench.ready("tiny-adder") == 1.0
    await bench.api.close()


async def test_a_dead_instance_among_living_ones_is_found(triton_server: TritonServer, triton_repository: Path) -> None:
    tiny_models.add_adder(triton_repository, "tiny-twice", engine=Engine(instances=2))
    bench = Bench(triton_server, triton_repository)
    assert await bench.api.load("tiny-twice") == ""
    try:
        await bench.watchdog.look()
        first, second = triton_server.stubs("tiny-twice")
        os.kill(second, signal.SIGKILL)
        eventually(lambda: not alive(second))
        await bench.watchdog.look(hurried=True)
        assert bench.value("sightline_triton_repairs_total", model="tiny-twice") == 1.0
        assert bench.ready("tiny-twice") == 1.0
        # Triton would keep the living one of the two for ever.
        bench.ahead += LEFT_SECONDS
        await bench.watchdog.look()
        eventually(lambda: not {first, second} & bench.stubs("tiny-twice"))
        assert len(bench.stubs("tiny-twice")) == 2 and bench.ready("tiny-twice") == 1.0
    finally:
        await bench.api.unload("tiny-twice")
        await bench.api.close()


async def test_one_that_fails_ends_and_does_not_look_away_for_ever(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def fails(self: Watchdog, hurry: asyncio.Event) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(Watchdog, "run", fails)
    options = Namespace(binary="none", url="http://127.0.0.1:9", region="none_", host="127.0.0.1", metrics_port=0)
    with pytest.raises(RuntimeError, match="a defect"):
        await asyncio.wait_for(watch(options, Settings(data_dir=tmp_path)), 10)
