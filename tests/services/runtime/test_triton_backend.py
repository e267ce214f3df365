"""The client's side of Triton: what it sends, when it gives up, where it tries again, and what it needs."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from services.errors import Kind, Problem
from services.runtime.choosing import open_backend
from services.runtime.protocol import Options, Tensor
from services.runtime.repository import Repository
from services.runtime.served import NoObserver
from services.runtime.triton import health, replica
from services.runtime.triton.backend import TritonBackend
from services.runtime.triton.channel import Channel
from services.runtime.triton.loading import Loader
from services.runtime.triton.uses import Uses
from services.settings import Settings
from tests.support import tiny_models
from tests.support.oip_recorder import Recorder, recorder
from tests.support.triton_suite import Shared

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
MODEL = "tiny-adder"

Watched = tuple[TritonBackend, list[Recorder]]


@asynccontextmanager
async def over(settings: Settings, number: int = 1, **changes: object) -> AsyncIterator[Watched]:
    """A started backend over so many recording servers; what they saw at start is forgotten."""
    tiny_models.add_adder(settings.models_dir)
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(recorder()) for _ in range(number)]
        urls = tuple(server.address for server in servers)
        backend = TritonBackend(settings.model_copy(update={"triton_urls": urls, **changes}))
        await backend.start()
        try:
            for server in servers:
                server.rows.clear()
                server.metadata.clear()
                server.remaining.clear()
            yield backend, servers
        finally:
            await backend.close()


def pair(value: float = 1, rows: int = 1) -> dict[str, Tensor]:
    return {"a": np.full((rows, 4), value, np.float32), "b": np.full((rows, 4), value, np.float32)}


async def until(check: object, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not check():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.02)


async def test_version_deadline_and_trace_go_with_the_call(settings: Settings) -> None:
    async with over(settings) as (backend, [server]):
        answer = await backend.infer(
            MODEL, pair(), options=Options(deadline=time.perf_counter() + 7, traceparent=TRACE)
        )
        np.testing.assert_array_equal(answer.outputs["sum"], np.full((1, 4), 2))
        answer.outputs["sum"] += 1  # the caller's own
        assert server.metadata[0]["traceparent"] == TRACE
        assert 6 < server.remaining[0] < 7.1
        assert set(server.versions) == {"1"}


async def test_what_arrives_while_the_server_is_busy_leaves_as_one_call(settings: Settings) -> None:
    async with over(settings, triton_batches=1) as (backend, [server]):
        asked = [backend.infer(MODEL, pair(value), options=Options.within(5)) for value in range(8)]
        answers = await asyncio.gather(*asked)
        assert [float(one.outputs["sum"][0, 0]) for one in answers] == [2.0 * value for value in range(8)]
        assert sum(server.rows) == 8 and len(server.rows) < 8


async def test_a_call_that_nobody_waits_for_is_cancelled_at_the_server(settings: Settings) -> None:
    async with over(settings) as (backend, [server]):
        server.hangs = True
        task = asyncio.create_task(backend.infer(MODEL, pair(), options=Options.within(30)))
        await until(lambda: server.rows)
        task.cancel()
        await until(lambda: server.cancelled)
        server.hangs = False
        assert (await backend.infer(MODEL, pair(), options=Options.within(5))).batch_size == 1


async def test_a_server_that_hangs_does_not_outlast_the_deadline(settings: Settings) -> None:
    async with over(settings) as (backend, [server]):
        server.hangs = True
        began = time.monotonic()
        with pytest.raises(Problem) as caught:
            await backend.infer(MODEL, pair(), options=Options.within(0.3))
        assert (caught.value.kind, caught.value.code) == (Kind.DEADLINE, "deadline-exceeded")
        assert time.monotonic() - began < 5  # it hangs for ever
        server.hangs = False


async def test_a_dead_model_is_asked_elsewhere_and_taken_back_when_it_works(settings: Settings) -> None:
    async with over(settings, 2) as (backend, servers):
        for server in servers:
            server.dead = True
            for _ in range(4):
                answer = await backend.infer(MODEL, pair(3), options=Options.within(5))
                assert float(answer.outputs["sum"][0, 0]) == 6
            # Whichever was asked first: the dead one is left out, and stays so until it has answered a probe.
            await until(lambda: len(backend.index()[0].providers) == 1)
            server.dead = False
            await until(lambda: len(backend.index()[0].providers) == 2)


async def test_a_model_that_hangs_is_left_out_however_many_ask_for_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "STUCK_SECONDS", 0.3)
    monkeypatch.setattr(health, "PROBE_SECONDS", 0.2)
    async with over(settings) as (backend, [server]):
        server.hangs = True

        async def ask() -> None:
            while backend.ready(MODEL):
                with pytest.raises(Problem):
                    await backend.infer(MODEL, pair(), options=Options.within(0.5))

        await asyncio.wait_for(asyncio.gather(*(ask() for _ in range(4))), 10)
        server.hangs = False
        await until(lambda: backend.ready(MODEL))


async def test_with_no_server_left_a_refusal_comes_at_once_and_says_when_to_come_again(settings: Settings) -> None:
    async with over(settings) as (backend, [server]):
        server.dead = True
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(Problem) as caught:
                await backend.infer(MODEL, pair(), options=Options.within(20))
            assert (caught.value.kind, caught.value.code) == (Kind.UNAVAILABLE, "model-not-ready")
            assert caught.value.retry_after and server.address in caught.value.detail
            assert time.monotonic() - began < 10  # of the 20 that it would have had
        with pytest.raises(Problem, match="not healthy"):
            await backend.resolve(MODEL)
        assert not backend.ready(MODEL)
        assert backend.index()[0].state == "UNAVAILABLE"
        server.dead = False
        await until(lambda: backend.ready(MODEL))


async def test_a_server_that_is_named_for_models_gets_no_others(settings: Settings) -> None:
    tiny_models.add_adder(settings.models_dir)
    tiny_models.add_adder(settings.models_dir, "other-adder")
    async with recorder() as first, recorder() as second:
        urls = (f"{first.address}/{MODEL}+more", f"{second.address}/third")
        backend = TritonBackend(settings.model_copy(update={"triton_urls": urls}))
        await backend.start()
        try:
            status = {one.name: one for one in backend.index()}
            assert status[MODEL].providers == (first.address,)
            await backend.infer(MODEL, pair(), options=Options.within(5))
            assert first.rows and not second.rows
            assert "names no Triton server" in status["other-adder"].reason
        finally:
            await backend.close()


async def test_a_gateway_starts_before_its_servers(settings: Settings, shared_triton: Shared) -> None:
    tiny_models.add_all(settings.models_dir)
    backend = TritonBackend(settings.model_copy(update={"triton_urls": ("127.0.0.1:9", shared_triton.server.grpc)}))
    await backend.start()
    try:
        assert backend.takes_work()
        assert {status.state for status in backend.index()} == {"READY"}
    finally:
        await backend.close()
    alone = TritonBackend(settings.model_copy(update={"triton_urls": ("127.0.0.1:9",)}))
    await alone.start()
    try:
        assert not alone.takes_work()
        assert {status.state for status in alone.index()} == {"UNAVAILABLE"}
    finally:
        await alone.close()


async def test_a_version_is_loaded_although_a_served_one_was_removed_from_the_repository(
    shared_triton: Shared, tmp_path: Path
) -> None:
    channel = Channel(shared_triton.server.grpc)
    loader = Loader(channel, tmp_path, Repository(shared_triton.root).card)
    try:
        newer = tiny_models.add_adder(shared_triton.root, version="2", offset=1)
        await loader.bring(MODEL, "2", {"1"})
        await loader.drop(MODEL, lambda version: version == "2")
        shutil.rmtree(newer)
        await loader.drop(MODEL, lambda version: version == "2")  # nothing to be done, and no error
        await loader.bring(MODEL, "1", {"1"})
        assert shared_triton.server.states()[f"{MODEL}/1"] == "READY"
    finally:
        await channel.close()
        shared_triton.restore()


async def test_large_tensors_go_through_shared_memory_and_leave_nothing_there(
    settings: Settings, shared_triton: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "SHARED_BYTES", 10_000)
    tiny_models.add_all(settings.models_dir)
    backend = TritonBackend(settings.model_copy(update={"triton_urls": (shared_triton.server.grpc,)}))
    await backend.start()
    try:
        images = np.random.default_rng(0).standard_normal((40, 3, 32, 32)).astype(np.float32)
        several = await asyncio.gather(*(backend.infer("tiny-classifier", {"image": images}) for _ in range(3)))
        assert regions()
        for row in (0, 17, 39):
            alone = await backend.infer("tiny-classifier", {"image": images[row : row + 1]})
            for answer in several:
                np.testing.assert_allclose(answer.outputs["logits"][row], alone.outputs["logits"][0], atol=1e-5)
    finally:
        await backend.close()
    assert not regions()


def regions() -> list[str]:
    return [path.name for path in Path("/dev/shm").glob("sightline-[0-9]*-*")]


async def test_values_that_the_model_cannot_take_are_the_callers_to_mend(
    settings: Settings, shared_triton: Shared
) -> None:
    tiny_models.add_all(settings.models_dir)
    backend = TritonBackend(settings.model_copy(update={"triton_urls": (shared_triton.server.grpc,)}))
    await backend.start()
    try:
        good = {"input_ids": np.ones((1, 3), np.int64), "attention_mask": np.ones((1, 3), np.int64)}
        bad = {**good, "input_ids": np.full((1, 3), 10**6, np.int64)}
        answers = await asyncio.gather(
            *(backend.infer("tiny-text", inputs) for inputs in (good, bad, good)), return_exceptions=True
        )
        refused = answers[1]
        assert isinstance(refused, Problem) and (refused.kind, refused.code) == (Kind.INVALID, "tensor-value")
        assert not isinstance(answers[0], BaseException) and not isinstance(answers[2], BaseException)
        np.testing.assert_array_equal(answers[0].outputs["embedding"], answers[2].outputs["embedding"])
    finally:
        await backend.close()


async def test_loads_need_no_thread_since_those_who_wait_for_them_may_have_all(
    settings: Settings, tmp_path: Path
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    async with recorder() as server:
        channel = Channel(server.address)
        loader = Loader(channel, tmp_path, Repository(settings.models_dir).card)

        def bring() -> None:
            asyncio.run_coroutine_threadsafe(loader.bring(MODEL, "1", ()), loop).result(5)

        await asyncio.to_thread(bring)
        await channel.close()


async def test_what_gateways_agree_on_is_not_in_the_folder_that_each_pod_has_for_itself(settings: Settings) -> None:
    async with over(settings):
        assert list(settings.data_dir.glob("triton/*.use")) and list(settings.data_dir.glob("triton/*.lock"))
        assert not settings.run_dir.exists()


def test_a_version_is_in_use_until_the_last_process_leaves_it(tmp_path: Path) -> None:
    one, other = Uses(tmp_path), Uses(tmp_path)
    assert not one.any(MODEL, "1")
    one.begin(MODEL, "1")
    other.begin(MODEL, "1")
    one.end(MODEL, "1")
    assert one.any(MODEL, "1") and not one.any(MODEL, "2")
    other.close()
    assert not one.any(MODEL, "1")


def test_addresses_are_written_as_people_do_and_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_TRITON_URLS", "one:8001, two:8001")
    settings = Settings()
    assert settings.triton_urls == ("one:8001", "two:8001")
    monkeypatch.setenv("SIGHTLINE_TRITON_URLS", settings.environment()["SIGHTLINE_TRITON_URLS"])
    assert Settings().triton_urls == ("one:8001", "two:8001")


@pytest.mark.parametrize("url", ["nothing", "http://one:8001", "one:8001/../x", "one:port", ""])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        Settings(triton_urls=(url,))


def test_a_runtime_without_servers_or_client_says_what_to_do() -> None:
    with pytest.raises(Problem) as caught:
        open_backend(Settings(runtime="triton", triton_urls=()), NoObserver())
    assert caught.value.code == "triton-urls-missing" and "SIGHTLINE_TRITON_URLS" in (caught.value.remedy or "")
    program = (
        "import sys; sys.modules['tritonclient'] = None\n"
        "from services.errors import Problem\n"
        "from services.runtime.choosing import open_backend\n"
        "from services.runtime.served import NoObserver\n"
        "from services.settings import Settings\n"
        "try: open_backend(Settings(runtime='triton'), NoObserver())\n"
        "except Problem as problem: print(problem.code, problem.remedy)\n"
    )
    assert "tritonclient-missing pip install 'sightline[triton]'" in output(program)


def test_the_embedded_engines_need_nothing_of_triton() -> None:
    program = (
        "import sys, tempfile; from pathlib import Path\n"
        "from gateway.app import create_app\n"
        "from services.settings import Settings\n"
        "create_app(Settings(data_dir=Path(tempfile.mkdtemp())))\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('grpc', 'tritonclient')])\n"
    )
    assert output(program).strip() == "[]"


def output(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout
