"""Loads and unloads reach every process of a data folder, whatever dies in between."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from models.catalog.card import Card
from services.errors import Problem
from services.runtime.desired_state import DesiredStates
from services.runtime.loaded import Version
from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import Options
from services.runtime.version_policy import LATEST, VersionPolicy
from services.settings import Settings
from tests.support import tiny_models

SPAWN = multiprocessing.get_context("spawn")


def ones() -> dict[str, np.ndarray]:
    return {"a": np.ones((1, 4), np.float32), "b": np.ones((1, 4), np.float32)}


def test_wish_is_seen_by_another_view_and_seen_once(tmp_path: Path) -> None:
    mine, other = DesiredStates(tmp_path / "control.json"), DesiredStates(tmp_path / "control.json")
    assert not other.refresh()
    made = mine.write("a", loaded=True, policy=VersionPolicy("specific", versions=("3",)))
    assert other.refresh()
    assert other.states == {"a": made}
    assert not other.refresh()
    later = mine.write("b", loaded=False)
    assert later.generation > made.generation
    assert other.refresh()
    assert other.states == {"a": made, "b": later}


def test_generations_grow_even_when_the_file_is_lost(tmp_path: Path) -> None:
    control = DesiredStates(tmp_path / "control.json")
    first = control.write("a", loaded=True)
    (tmp_path / "control.json").unlink()
    assert control.write("a", loaded=False).generation > first.generation


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"models": []}',
        b'{"models": {"a": {}}}',
        b'{"models": {"../a": {"loaded": true, "generation": 1, "policy": {"all": {}}}}}',
        b'{"models": {"a": {"loaded": true, "generation": 1, "policy": {"newest": {}}}}}',
        b"\xff",
    ],
)
def test_unreadable_file_is_ignored_and_replaced_by_the_next_wish(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "control.json"
    path.write_bytes(content)
    control = DesiredStates(path)
    control.refresh()
    assert control.states == {}
    made = control.write("b", loaded=True)
    control.refresh()
    assert control.states == {"b": made}


def _write_for_ever(path: Path, name: str) -> None:
    control = DesiredStates(path)
    while True:
        control.write(name, loaded=True)


def _names(path: Path) -> set[str]:
    return set(json.loads(path.read_bytes())["models"]) if path.exists() else set()


def test_killed_writers_leave_a_whole_file_and_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "control.json"
    names = ["a", "b"]
    for _ in range(3):
        writers = [SPAWN.Process(target=_write_for_ever, args=(path, name), daemon=True) for name in names]
        for writer in writers:
            writer.start()
        wait_until = time.monotonic() + 20
        while not set(names) <= _names(path) and time.monotonic() < wait_until:
            time.sleep(0.01)
        for writer in writers:
            time.sleep(0.05)
            assert writer.pid is not None
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
        assert _names(path) - {"mine"} == set(names)
        DesiredStates(path).write("mine", loaded=True)
        assert _names(path) == {*names, "mine"}


def _write_some(path: Path, name: str, count: int) -> None:
    control = DesiredStates(path)
    for number in range(count):
        control.write(f"{name}{number}", loaded=True)


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "control.json"
    writers = [SPAWN.Process(target=_write_some, args=(path, name, 20)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    control = DesiredStates(path)
    control.refresh()
    assert len(control.states) == 40
    assert len({state.generation for state in control.states.values()}) == 40
    assert all(state.policy == LATEST for state in control.states.values())


def _sibling(settings: Settings, pipe: multiprocessing.connection.Connection) -> None:
    """Another gateway process: loads and unloads as it is told."""

    async def main() -> None:
        backend = OnnxBackend(settings)
        await backend.start()
        pipe.send("ready")
        while (order := await asyncio.to_thread(pipe.recv)) is not None:
            action, model = order
            await getattr(backend, action)(model)
            pipe.send("done")
        await backend.close()

    asyncio.run(main())


async def test_two_processes_serve_what_either_was_told(settings: Settings, repository: Path) -> None:
    mine, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_sibling, args=(settings, theirs), daemon=True)
    process.start()
    backend = OnnxBackend(settings)
    await backend.start()

    async def sibling(action: str, model: str) -> None:
        mine.send((action, model))
        assert await asyncio.to_thread(mine.recv) == "done"

    try:
        assert await asyncio.to_thread(mine.recv) == "ready"
        await backend.infer("tiny-adder", ones())
        await sibling("unload", "tiny-adder")
        with pytest.raises(Problem, match="unloaded on request"):  # at once: not even one request more
            await backend.infer("tiny-adder", ones())
        tiny_models.add_adder(settings.models_dir, version="2", offset=1)
        await sibling("load", "tiny-adder")
        assert (await backend.resolve("tiny-adder")).card.version == "2"
        answer = await backend.infer("tiny-adder", ones())  # waits for the load here, is not refused
        assert (answer.version, answer.outputs["sum"][0, 0]) == ("2", 3)
        tiny_models.add_adder(settings.models_dir, version="3", offset=2)
        await sibling("load", "tiny-adder")
        assert (await backend.infer("tiny-adder", ones(), version="3")).version == "3"
        await sibling("unload", "tiny-text")
        await sibling("load", "tiny-text")
        await backend.settled("tiny-text")
        assert backend.ready("tiny-text")
        mine.send(None)
        await asyncio.to_thread(process.join, 20)
        assert process.exitcode == 0
    finally:
        process.kill()
        await backend.close()


async def test_idle_process_follows_without_requests(
    settings: Settings, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.runtime.library.WATCH_SECONDS", 0.02)
    backend = OnnxBackend(settings)
    await backend.start()
    try:
        DesiredStates(settings.data_dir / "control.json").write("tiny-adder", loaded=False)
        await asyncio.sleep(0.2)
        assert not backend._library.models["tiny-adder"].versions
    finally:
        await backend.close()


async def test_load_that_fails_here_leaves_what_is_served_and_says_why(settings: Settings, repository: Path) -> None:
    backend = OnnxBackend(settings)
    await backend.start()
    try:
        folder = tiny_models.add_adder(settings.models_dir, version="2", offset=1)
        (folder / "model.onnx").write_bytes(b"torn")
        DesiredStates(settings.data_dir / "control.json").write("tiny-adder", loaded=True)
        await backend.settled("tiny-adder")
        assert (await backend.infer("tiny-adder", ones())).version == "1"
        reasons = {status.version: status.reason for status in backend.index() if status.name == "tiny-adder"}
        assert "sha256" in reasons["2"]
    finally:
        await backend.close()


async def test_state_that_cannot_be_written_changes_nothing(settings: Settings, repository: Path) -> None:
    backend = OnnxBackend(settings)
    await backend.start()
    try:
        (settings.data_dir / "control.lock").mkdir()
        for call in (backend.unload("tiny-adder"), backend.load("tiny-adder")):
            with pytest.raises(Problem) as caught:
                await call
            assert caught.value.code == "state-unwritable"
        await backend.infer("tiny-adder", ones())
    finally:
        await backend.close()


async def test_deadline_holds_while_another_process_load_is_followed(
    settings: Settings, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = OnnxBackend(settings.model_copy(update={"preload": ()}))
    await backend.start()
    try:
        go, whole = threading.Event(), backend._library.opening.open_version
        monkeypatch.setattr(backend._library.opening, "open_version", lambda card: (go.wait(60), whole(card))[1])
        DesiredStates(settings.data_dir / "control.json").write("tiny-adder", loaded=True)
        with pytest.raises(Problem) as caught:
            await backend.infer("tiny-adder", ones(), options=Options.within(0.05))
        assert caught.value.code == "deadline-exceeded"
        with pytest.raises(Problem) as caught:
            await backend.resolve("tiny-adder", deadline=time.perf_counter() + 0.05)
        assert caught.value.code == "deadline-exceeded"
        assert [status.state for status in backend.index() if status.name == "tiny-adder"] == ["LOADING"]
        go.set()
        assert (await backend.resolve("tiny-adder")).folder.name == "1"
        await backend.infer("tiny-adder", ones(), options=Options.within(20))
    finally:
        await backend.close()


async def test_unload_elsewhere_in_the_middle_of_a_load_leaves_no_dead_version(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_models.add_adder(settings.models_dir)
    backend = OnnxBackend(settings)
    await backend.start()
    try:
        tiny_models.add_adder(settings.models_dir, version="2", offset=1)
        elsewhere = DesiredStates(settings.data_dir / "control.json")
        opening = backend._library.opening.open_version

        def interrupted(card: Card) -> Version:
            if card.version == "2" and not elsewhere.states:
                elsewhere.write("tiny-adder", loaded=False)
                elsewhere.refresh()
                time.sleep(0.1)  # this process looks, and takes version 1 out
            return opening(card)

        monkeypatch.setattr(backend._library.opening, "open_version", interrupted)
        loading = asyncio.create_task(backend.load("tiny-adder", VersionPolicy("all")))
        while not loading.done():
            backend.ready("tiny-adder")
            await asyncio.sleep(0.005)
        await loading  # the load was asked for last
        for version, total in (("1", 2), ("2", 3)):
            answer = await backend.infer("tiny-adder", ones(), version=version)
            assert answer.outputs["sum"][0, 0] == total
    finally:
        await backend.close()
