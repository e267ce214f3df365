"""Over the real process: answers, streams, cancel, deadline, memory, death, versions, several gateways."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.catalog.card import Batching
from services.errors import Kind, Problem
from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import Inference, Options, Tensor
from services.runtime.torch_worker import frames, worker
from services.runtime.torch_worker.endpoint import Endpoint, proof
from services.runtime.torch_worker.process import listening
from services.settings import Settings
from tests.support import tiny_models, torch_programs
from tests.support.torch_programs import LATENT, TARGET, in_process
from tests.support.torch_worker import StepsObserver, at_address, supervised

Serving = Callable[..., AbstractAsyncContextManager[OnnxBackend]]

pytestmark = pytest.mark.timeout(240)


def flow(rows: int = 3, steps: int = 20, seed: int = 1) -> dict[str, Tensor]:
    rng = np.random.default_rng(seed)
    return {
        "z": rng.standard_normal((rows, LATENT)).astype(np.float32),
        "target": rng.standard_normal((rows, TARGET)).astype(np.float32),
        "steps": np.full((rows, 1), steps, np.int64),
    }


def text(count: int = 10, prompt: int = 3) -> dict[str, Tensor]:
    return {"prompt": np.array([[prompt]], np.int64), "count": np.array([[count]], np.int64)}


def steps(count: int) -> dict[str, Tensor]:
    return {"steps": np.array([[count]], np.int64)}


async def refusal(backend: OnnxBackend, model: str, inputs: dict[str, Tensor], **options: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        await backend.infer(model, inputs, **options)
    return caught.value


@pytest.fixture
def models(torch_settings: Settings) -> Path:
    """A repository with both programs, and one model of ONNX Runtime's."""
    root = torch_settings.models_dir
    torch_programs.add_latent(root)
    torch_programs.add_tokens(root)
    tiny_models.add_adder(root)
    return root


async def test_answers_are_those_of_pytorch_in_one_process(
    torch_settings: Settings, models: Path, serving: Serving, observer: StepsObserver
) -> None:
    with supervised(torch_settings):
        async with serving() as backend:
            torch.set_num_threads(1)
            expected = in_process(torch_programs.Latent(torch_programs.mlp()), flow())
            answer = await backend.infer("tiny-flow", flow())
            for name in ("z", "loss"):
                assert np.array_equal(answer.outputs[name], expected[-1][name])
            assert answer.version == "1" and answer.batch_size == 3
            assert observer.steps == {"tiny-flow": 20}

            parts = [part async for part in backend.stream("tiny-flow", flow())]
            assert len(parts) == 21 and [part.final for part in parts] == [False] * 20 + [True]
            for part, wanted in zip(parts, expected, strict=True):
                assert np.array_equal(part.outputs["z"], wanted["z"])

            written = (await backend.infer("tiny-writer", text())).outputs["tokens"]
            parts = [part async for part in backend.stream("tiny-writer", text())]
            assert np.array_equal(np.concatenate([p.outputs["tokens"] for p in parts[:-1]], 1), written[:, 1:])
            assert np.array_equal(parts[-1].outputs["tokens"], written)
            counted = backend.statistics("tiny-writer", "1")
            assert (counted.success_count, counted.fail_count, counted.inference_count) == (2, 0, 2)
            assert backend.statistics("tiny-flow", "1").success_count == 2


async def test_models_of_other_engines_are_served_as_ever_and_stream_their_one_answer(
    torch_settings: Settings, models: Path, serving: Serving
) -> None:
    with supervised(torch_settings):
        async with serving() as backend:
            ones = {name: np.ones((1, 4), np.float32) for name in "ab"}
            assert (await backend.infer("tiny-adder", ones)).outputs["sum"].tolist() == [[2] * 4]
            (only,) = [part async for part in backend.stream("tiny-adder", ones)]
            assert only.final and only.outputs["sum"].tolist() == [[2] * 4]
            found = {status.name: status for status in backend.index()}
            assert (found["tiny-flow"].state, found["tiny-flow"].runtime) == ("READY", "torch")
            assert found["tiny-flow"].providers == ("cpu",)


async def test_the_worker_starts_when_a_model_needs_it_and_not_before(
    torch_settings: Settings, models: Path, serving: Serving
) -> None:
    with supervised(torch_settings) as running:
        async with serving(preload=("tiny-adder",)) as backend:
            assert running.pid is None and backend.torch_worker is None
            await backend.load("tiny-flow")
            assert running.pid is not None
            await backend.infer("tiny-flow", flow())
            status = backend.torch_worker
            assert status is not None and status.up and status.started > time.time() - 60


async def test_every_element_type_goes_there_and_back(torch_settings: Settings, models: Path, serving: Serving) -> None:
    torch_programs.add_echo(models)
    inputs: dict[str, Tensor] = {}
    for kind in tiny_models.ELEMENT:
        values = np.array([[b"a", b""]], object) if kind == "BYTES" else np.array([[0, 1]])
        inputs[f"in_{kind.lower()}"] = values if kind == "BYTES" else values.astype(frames.DTYPES[kind])  # type: ignore[index]
    with supervised(torch_settings):
        async with serving(preload=("tiny-torch-echo",)) as backend:
            answer = await backend.infer("tiny-torch-echo", inputs)
    for name, array in inputs.items():
        got = answer.outputs[name.replace("in_", "out_")]
        assert got.dtype == array.dtype and np.array_equal(got, array)


async def test_what_does_not_fit_the_card_is_refused_as_by_other_engines(
    torch_settings: Settings, models: Path, serving: Serving
) -> None:
    with supervised(torch_settings):
        async with serving() as backend:
            inputs = flow()
            for code, wrong in {
                "tensor-missing": {"z": inputs["z"], "target": inputs["target"]},
                "tensor-unknown": {**inputs, "more": inputs["z"]},
                "tensor-type": {**inputs, "z": inputs["z"].astype(np.float64)},
                "tensor-shape": {**inputs, "z": inputs["z"][:, :2]},
            }.items():
                assert (await refusal(backend, "tiny-flow", wrong)).code == code
            assert (await refusal(backend, "tiny-flow", inputs, outputs=["nothing"])).code == "tensor-unknown"
            too_many = await refusal(backend, "tiny-flow", flow(rows=33))
            assert too_many.code == "tensor-shape" and "33" in too_many.detail and "32" in too_many.detail
            problem = await refusal(backend, "tiny-writer", text(prompt=99))
            assert (problem.kind, problem.code) == (Kind.INVALID, "tensor-value") and "below 17" in problem.detail
            only = await backend.infer("tiny-flow", inputs, outputs=["loss"])
            assert set(only.outputs) == {"loss"}


async def test_the_rows_of_one_request_stay_together_and_others_join_only_where_the_program_lets_them(
    torch_settings: Settings, models: Path, serving: Serving
) -> None:
    torch_programs.add_latent(models, "slow-flow", pause=0.02)
    with supervised(torch_settings):
        async with serving() as backend:
            alone = (await backend.infer("tiny-flow", flow())).outputs["z"]
            several = await asyncio.gather(*(backend.infer("tiny-flow", flow()) for _ in range(4)))
            assert all(np.array_equal(one.outputs["z"], alone) and one.batch_size == 3 for one in several)

            busy = asyncio.create_task(backend.infer("slow-flow", flow(steps=100)))
            await asyncio.sleep(0.2)
            first = asyncio.create_task(backend.infer("tiny-writer", text(count=4)))
            await asyncio.sleep(0.2)  # waits in the worker; the others wait here, and leave together
            joined = await asyncio.gather(*(backend.infer("tiny-writer", text(count=4)) for _ in range(3)))
            assert [int(one.outputs["together"][0, 0]) for one in joined] == [3, 3, 3]
            assert np.array_equal(joined[0].outputs["tokens"], (await first).outputs["tokens"])
            await busy

            # One that cannot be computed does not fail those that happened to join it.
            busy = asyncio.create_task(backend.infer("slow-flow", flow(steps=100)))
            await asyncio.sleep(0.2)
            waiting = asyncio.create_task(backend.infer("tiny-writer", text(count=4)))
            await asyncio.sleep(0.2)
            good, bad = asyncio.create_task(backend.infer("tiny-writer", text(count=4))), text(prompt=99)
            assert (await refusal(backend, "tiny-writer", bad)).code == "tensor-value"
            assert np.array_equal((await good).outputs["tokens"], joined[0].outputs["tokens"])
            await asyncio.gather(busy, waiting)


async def test_who_leaves_stops_the_run_at_its_next_step(
    torch_settings: Settings, models: Path, serving: Serving, observer: StepsObserver
) -> None:
    torch_programs.add_latent(models, "endless", pause=0.01)
    with supervised(torch_settings):
        async with serving() as backend:
            task = asyncio.create_task(backend.infer("endless", flow(steps=100_000)))
            await asyncio.sleep(0.5)
            task.cancel()
            began = time.perf_counter()
            await backend.infer("tiny-flow", flow())  # there is room for one: it waits until the other has stopped
            assert time.perf_counter() - began < 10  # else it would go on for a quarter of an hour
            assert 0 < observer.steps["endless"] < 1000

            async with aclosing(backend.stream("endless", flow(steps=100_000))) as parts:
                async for part in parts:
                    assert not part.final
                    break
            began = time.perf_counter()
            await backend.infer("tiny-flow", flow())
            assert time.perf_counter() - began < 10  # else it would go on for a quarter of an hour


async def test_a_run_ends_at_its_deadline(torch_settings: Settings, models: Path, serving: Serving) -> None:
    torch_programs.add_latent(models, "endless", pause=0.01)
    torch_programs.add_misbehaving(models, "hang")
    with supervised(torch_settings.model_copy(update={"torch_stop_seconds": 4.0})) as running:
        async with serving() as backend:
            began = time.perf_counter()
            problem = await refusal(backend, "endless", flow(steps=100_000), options=Options.within(0.5))
            assert (problem.kind, problem.code) == (Kind.DEADLINE, "deadline-exceeded")
            assert "step" in problem.detail and time.perf_counter() - began < 10

            parts: list[Inference] = []
            with pytest.raises(Problem) as caught:
                async for part in backend.stream("endless", flow(steps=100_000), options=Options.within(1.5)):
                    parts.append(part)
            assert caught.value.code == "deadline-exceeded" and parts

            # A step that does not end is waited for no longer than the deadline; the worker then starts anew.
            before = running.pid
            began = time.perf_counter()
            problem = await refusal(backend, "tiny-hang", steps(1), options=Options.within(0.3))
            assert problem.code == "deadline-exceeded" and time.perf_counter() - began < 3
            behind = await refusal(backend, "tiny-flow", flow())  # nothing else is in the worker's way
            assert behind.code == "torch-worker-lost" and behind.retry_after
            await backend.infer("tiny-flow", flow())
            assert running.pid != before
            assert "did not stop within 4 s" in running.log.read_text()


async def test_more_memory_than_may_be_is_an_error_that_says_which_limit(
    torch_settings: Settings, models: Path, serving: Serving
) -> None:
    torch_programs.add_misbehaving(models, "greedy")
    limit = 1500 << 20  # PyTorch's build for GPUs takes 700 MiB by itself
    with supervised(torch_settings.model_copy(update={"torch_memory_bytes": limit})) as running:
        async with serving() as backend:
            problem = await refusal(backend, "tiny-greedy", steps(100))
            assert (problem.kind, problem.code) == (Kind.TOO_LARGE, "torch-memory-exceeded")
            assert "1,500 MiB (SIGHTLINE_TORCH_MEMORY_BYTES)" in problem.detail
            assert problem.remedy is not None and "SIGHTLINE_TORCH_MEMORY_BYTES" in problem.remedy
            pid = running.pid
            await backend.infer("tiny-greedy", steps(3))
            await backend.infer("tiny-flow", flow())
            assert running.pid == pid  # it lives on, and has given the memory back


async def test_a_killed_worker_fails_what_ran_and_serves_what_comes_next(
    torch_settings: Settings, models: Path, serving: Serving
) -> None:
    torch_programs.add_latent(models, "endless", pause=0.01)
    with supervised(torch_settings) as running:
        async with serving() as backend:
            load = [asyncio.create_task(backend.infer("endless", flow(steps=100_000))) for _ in range(3)]
            load += [asyncio.create_task(backend.infer("tiny-writer", text())) for _ in range(3)]
            streamed = asyncio.create_task(_all(backend.stream("endless", flow(steps=100_000))))
            await asyncio.sleep(0.5)
            running.kill()
            await asyncio.sleep(0)
            async with asyncio.timeout(20):
                first = await asyncio.wait(load, return_when=asyncio.FIRST_EXCEPTION)
            lost = [task.exception() for task in first[0]]
            assert lost and all(isinstance(error, Problem) for error in lost)
            problem = lost[0]
            assert isinstance(problem, Problem)
            assert (problem.kind, problem.code) == (Kind.UNAVAILABLE, "torch-worker-lost") and problem.retry_after
            for task in [*load, streamed]:
                task.cancel()
            await asyncio.wait([*load, streamed], timeout=10)
            assert all(task.done() for task in [*load, streamed])
            async with asyncio.timeout(60):
                answer = await backend.infer("tiny-flow", flow())
            assert answer.outputs["z"].shape == (3, LATENT)
            assert {status.state for status in backend.index()} == {"READY"}


async def test_a_request_that_ends_the_worker_does_not_end_the_others_models(
    torch_settings: Settings, models: Path, serving: Serving
) -> None:
    torch_programs.add_misbehaving(models, "dying")
    with supervised(torch_settings):
        async with serving(preload=("tiny-flow", "tiny-writer")) as backend:
            await backend.load("tiny-dying")  # which dies when it is opened
            async with asyncio.timeout(150):
                while not backend.ready("tiny-flow") or backend.ready("tiny-dying"):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            await backend.infer("tiny-flow", flow())
            problem = await refusal(backend, "tiny-dying", steps(1))
            assert problem.kind is Kind.UNAVAILABLE and "each time" in problem.detail


async def _all(parts: AsyncGenerator[Inference, None]) -> list[Inference]:
    return [part async for part in parts]


async def test_a_new_version_takes_over_without_a_request_lost(
    torch_settings: Settings, models: Path, serving: Serving
) -> None:
    with supervised(torch_settings):
        async with serving(preload=("tiny-flow",)) as backend:
            old = (await backend.infer("tiny-flow", flow())).outputs["z"]
            torch_programs.add_latent(models, seed=5, version="2")
            answers: list[Inference] = []
            done = asyncio.Event()

            async def ask() -> None:
                while not done.is_set():
                    answers.append(await backend.infer("tiny-flow", flow()))

            asking = [asyncio.create_task(ask()) for _ in range(3)]
            await asyncio.sleep(0.1)
            await backend.load("tiny-flow")
            new = (await backend.infer("tiny-flow", flow())).outputs["z"]
            done.set()
            await asyncio.gather(*asking)
            assert not np.array_equal(old, new)
            for one in answers:
                assert np.array_equal(one.outputs["z"], new if one.version == "2" else old)
            assert answers[0].version == "1"

            await backend.unload("tiny-flow")
            assert (await refusal(backend, "tiny-flow", flow())).code == "model-not-ready"
            assert backend.torch_worker is None


async def test_two_gateways_share_one_worker(torch_settings: Settings, models: Path, serving: Serving) -> None:
    torch_programs.add_latent(models, "slow-flow", pause=0.05)
    with supervised(torch_settings) as running:
        async with serving() as one, serving() as other:
            expected = (await one.infer("tiny-flow", flow())).outputs["z"]
            assert np.array_equal((await other.infer("tiny-flow", flow())).outputs["z"], expected)
            assert Path(
                f"/proc/{running.supervisor.pid}/task/{running.supervisor.pid}/children"
            ).read_text().split() == [str(running.pid)]
            # The more urgent goes first, whoever sent it; and what one gateway lets go of, the other still has.
            busy = asyncio.create_task(one.infer("slow-flow", flow(steps=60)))
            await asyncio.sleep(0.2)
            order: list[str] = []

            async def ask(backend: OnnxBackend, name: str, priority: int) -> None:
                await backend.infer("tiny-flow", flow(), options=Options(priority=priority))
                order.append(name)

            later = asyncio.create_task(ask(one, "later", 3))
            await asyncio.sleep(0.05)
            urgent = asyncio.create_task(ask(other, "urgent", 0))
            await asyncio.gather(busy, later, urgent)
            assert order == ["urgent", "later"]
            await one.close()
            await other.infer("tiny-flow", flow())


async def test_a_slow_reader_slows_the_run_down_and_fills_no_memory(
    torch_settings: Settings, models: Path, serving: Serving
) -> None:
    with supervised(torch_settings):
        async with serving() as backend:
            async with aclosing(backend.stream("tiny-flow", flow(steps=500))) as parts:
                first = await anext(parts)
                await asyncio.sleep(1.5)  # the worker tells how it is once a second
                status = backend.torch_worker
                assert status is not None and status.running == 1  # it waits for its reader
                seen = [first, *[part async for part in parts]]
            assert len(seen) == 501
            expected = in_process(torch_programs.Latent(torch_programs.mlp()), flow(steps=500))
            assert all(
                np.array_equal(part.outputs["z"], wanted["z"]) for part, wanted in zip(seen, expected, strict=True)
            )


async def test_no_more_previews_are_on_their_way_than_were_asked_for(torch_settings: Settings, models: Path) -> None:
    torch_programs.add_latent(models, "counted")
    with supervised(torch_settings):
        reader, writer = await Endpoint.of(torch_settings).connect()
        hello = await frames.read(reader)
        writer.write(frames.encode({"version": 1, "proof": proof("", hello.header["nonce"])}))
        await _answer(reader, "ready")
        key = worker.key_of(models / "counted" / "1", tiny_models.Card.read(models / "counted" / "1"))
        writer.write(frames.encode({"op": "open", "id": 1, "key": key}))
        await _answer(reader, "done")
        run = {"op": "run", "id": 2, "key": key, "outputs": ["z"], "priority": 1, "seconds": None, "credit": 2}
        writer.write(frames.encode(run, flow(steps=50)))
        got = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                while True:
                    got.append(await _answer(reader, "part"))
        assert len(got) == 2
        writer.write(frames.encode({"op": "more", "id": 2, "count": 3}))
        for _ in range(3):
            await asyncio.wait_for(_answer(reader, "part"), 5)
        writer.close()


async def _answer(reader: asyncio.StreamReader, kind: str) -> frames.Frame:
    while True:
        frame = await frames.read(reader)
        if "status" not in frame.header:
            assert kind in frame.header, frame.header
            return frame


async def test_a_full_queue_refuses_as_other_engines_do(
    torch_settings: Settings, models: Path, serving: Serving
) -> None:
    torch_programs.add_latent(models, "small", pause=0.02, batching=Batching(max_batch_size=3, max_queue=6))
    with supervised(torch_settings):
        async with serving() as backend:
            tasks = [asyncio.create_task(backend.infer("small", flow(steps=100)))]
            await asyncio.sleep(0.1)  # it runs; the next two fill the queue
            tasks += [asyncio.create_task(backend.infer("small", flow(steps=50))) for _ in range(2)]
            await asyncio.sleep(0.1)
            problem = await refusal(backend, "small", flow())
            assert (problem.kind, problem.code) == (Kind.TOO_MANY, "queue-full") and problem.retry_after
            await asyncio.gather(*tasks)


async def test_a_model_whose_program_or_weights_are_wrong_is_told_and_the_others_are_served(
    torch_settings: Settings, models: Path, serving: Serving
) -> None:
    folder = torch_programs.add_latent(models, "stranger")
    card = json.loads((folder / "card.json").read_text())
    card["engine"]["program"] = "os-system"
    (folder / "card.json").write_text(json.dumps(card))
    torch_programs._write(models, "pickled", "latent", {}, (), (), {})
    pickled = models / "pickled" / "1"
    (pickled / "weights.pt").write_bytes(b"x")
    card = json.loads((pickled / "card.json").read_text())
    card["files"]["weights.pt"] = tiny_models.hashlib.sha256(b"x").hexdigest()
    (pickled / "card.json").write_text(json.dumps(card))
    with supervised(torch_settings):
        async with serving() as backend:
            reasons = {status.name: status.reason for status in backend.index()}
            assert "there is no program 'os-system'" in reasons["stranger"] and "tokens" not in reasons["tiny-flow"]
            assert "'weights.pt' may hold code" in reasons["pickled"]
            await backend.infer("tiny-flow", flow())


async def test_a_worker_elsewhere_asks_for_the_token(torch_settings: Settings, models: Path, serving: Serving) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    token = "a-token-of-both-sides"
    remote = torch_settings.model_copy(update={"torch_token": token})
    with at_address(remote, port) as log:
        where = {"torch_url": f"127.0.0.1:{port}"}
        async with serving(**where, torch_token=token) as backend:
            assert (await backend.infer("tiny-flow", flow())).outputs["z"].shape == (3, LATENT)
        async with serving(**where, torch_token="another-token-altogether") as backend:
            (reason,) = {status.reason for status in backend.index() if status.name == "tiny-flow"}
            assert "SIGHTLINE_TORCH_TOKEN" in reason
            problem = await refusal(backend, "tiny-flow", flow())
            assert (problem.kind, problem.code) == (Kind.UNAVAILABLE, "model-not-ready") and problem.retry_after
        assert token not in log.read_text()


async def test_a_worker_that_is_away_at_the_start_is_waited_for(
    torch_settings: Settings, models: Path, serving: Serving
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with serving(torch_url=f"127.0.0.1:{port}") as backend:
        assert not backend.ready("tiny-flow") and backend.ready("tiny-adder")
        status = backend.torch_worker
        assert status is not None and not status.up
        with at_address(torch_settings, port):
            async with asyncio.timeout(20):
                while not backend.ready("tiny-flow"):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            await backend.infer("tiny-flow", flow())


def test_a_worker_that_others_can_reach_needs_a_token() -> None:
    with pytest.raises(Problem) as caught:
        listening.bound("0.0.0.0", 0, None)
    assert caught.value.code == "torch-token-missing"
