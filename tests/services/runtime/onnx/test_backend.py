"""The embedded backend: answers, versions, load and unload under traffic, pipelines, and what it says of trouble."""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from models.catalog.card import Batching, Pipeline
from services.errors import Kind, Problem
from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import Backend, Options, Tensor
from services.runtime.version_policy import VersionPolicy
from services.settings import Settings
from tests.support import tiny_models


@asynccontextmanager
async def serving(settings: Settings, **changes: object) -> AsyncIterator[OnnxBackend]:
    backend = OnnxBackend(settings.model_copy(update=changes))
    await backend.start()
    try:
        yield backend
    finally:
        await backend.close()


def ones(rows: int = 1) -> dict[str, Tensor]:
    return {"a": np.ones((rows, 4), np.float32), "b": np.ones((rows, 4), np.float32)}


def states(backend: Backend, model: str) -> dict[str, str]:
    return {status.version: status.state for status in backend.index() if status.name == model}


def _add_slow(root: Path) -> None:
    """Tens of milliseconds a request, one at a time."""
    model = tiny_models.slow(iterations=20_000)
    card = tiny_models.card("slow", model, batching=Batching(max_batch_size=1))
    tiny_models.write(root, card, {"model.onnx": model})


async def refusal(backend: OnnxBackend, model: str, inputs: dict[str, Tensor], **options: object) -> Problem:
    with pytest.raises(Problem) as caught:
        await backend.infer(model, inputs, **options)  # type: ignore[arg-type]
    return caught.value


async def test_all_models_are_loaded_at_start_and_answer(settings: Settings, repository: Path) -> None:
    async with serving(settings) as backend:
        assert {status.state for status in backend.index()} == {"READY"}
        status = backend.index()[0]
        assert status.runtime.startswith("onnxruntime ")
        assert status.providers == ("CPUExecutionProvider",)
        answer = await backend.infer("tiny-adder", ones(3))
        assert answer.outputs["sum"].tolist() == [[2.0] * 4] * 3
        assert (answer.version, answer.batch_size) == ("1", 3)
        text = {"input_ids": np.array([[2, 4, 3]]), "attention_mask": np.ones((1, 3), np.int64)}
        assert (await backend.infer("tiny-text", text)).outputs["embedding"].shape == (1, 16)
        model = await backend.resolve("tiny-classifier")
        folder = model.folder
        assert (folder / "labels.txt").read_text().splitlines() == list(tiny_models.LABELS)
        assert model.card.logits == "logits"


async def test_only_preloaded_models_are_loaded(settings: Settings, repository: Path) -> None:
    async with serving(settings, preload=("tiny-text", "missing")) as backend:
        assert states(backend, "tiny-text") == {"1": "READY"}
        assert states(backend, "tiny-adder") == {"1": "UNAVAILABLE"}
        problem = await refusal(backend, "tiny-adder", ones())
        assert (problem.kind, problem.code) == (Kind.UNAVAILABLE, "model-not-ready")
        await backend.load("tiny-adder")
        await backend.infer("tiny-adder", ones())


async def test_requests_at_once_share_batches_and_get_their_own_rows(settings: Settings, repository: Path) -> None:
    async with serving(settings) as backend:
        inputs = [{"a": np.full((1, 4), n, np.float32), "b": np.zeros((1, 4), np.float32)} for n in range(20)]
        answers = await asyncio.gather(*(backend.infer("tiny-adder", one) for one in inputs))
        assert [float(answer.outputs["sum"][0, 0]) for answer in answers] == list(range(20))
        statistics = backend.statistics("tiny-adder", "1")
        assert statistics.inference_count == statistics.success_count == 20
        assert statistics.execution_count < 20
        assert max(statistics.batch_counts) <= 8
        assert sum(size * count for size, count in statistics.batch_counts.items()) == 20


async def test_request_larger_than_a_batch_is_cut_and_put_together_again(settings: Settings, repository: Path) -> None:
    async with serving(settings) as backend:
        a = np.arange(400, dtype=np.float32).reshape(100, 4)
        answer = await backend.infer("tiny-adder", {"a": a, "b": a})
        np.testing.assert_array_equal(answer.outputs["sum"], 2 * a)
        assert max(backend.statistics("tiny-adder", "1").batch_counts) <= 8
        assert answer.queue_seconds >= 0


async def test_shapes_do_not_mix(settings: Settings, repository: Path) -> None:
    async with serving(settings) as backend:

        async def embed(length: int) -> Tensor:
            ids = np.full((1, length), 4, np.int64)
            answer = await backend.infer("tiny-text", {"input_ids": ids, "attention_mask": np.ones_like(ids)})
            return answer.outputs["embedding"]

        rows = await asyncio.gather(*(embed(length) for length in (2, 5, 2, 9, 5)))
        for row in rows:  # the mean of equal tokens is the token, whatever the length
            np.testing.assert_allclose(row, rows[0], rtol=1e-5)


async def test_requested_outputs_only(settings: Settings, repository: Path) -> None:
    image = {"image": np.zeros((1, 3, 32, 32), np.float32)}
    async with serving(settings) as backend:
        both, logits = await asyncio.gather(
            backend.infer("tiny-classifier", image), backend.infer("tiny-classifier", image, outputs=["logits"])
        )
        assert list(both.outputs) == ["logits", "features"]
        assert list(logits.outputs) == ["logits"]
        problem = await refusal(backend, "tiny-classifier", image, outputs=["nonsense"])
        assert problem.code == "tensor-unknown"


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ({}, "tensor-missing"),
        ({"a": np.ones((1, 4), np.float32)}, "tensor-missing"),
        ({**ones(), "c": np.ones(1)}, "tensor-unknown"),
        ({"a": np.ones((1, 4)), "b": np.ones((1, 4))}, "tensor-type"),
        ({"a": np.ones((1, 4), ">f4"), "b": np.ones((1, 4), ">f4")}, "tensor-type"),
        ({"a": np.ones((1, 5), np.float32), "b": np.ones((1, 5), np.float32)}, "tensor-shape"),
        ({"a": np.ones(4, np.float32), "b": np.ones(4, np.float32)}, "tensor-shape"),
        ({"a": np.ones((0, 4), np.float32), "b": np.ones((0, 4), np.float32)}, "tensor-shape"),
        ({"a": np.ones((2, 4), np.float32), "b": np.ones((1, 4), np.float32)}, "tensor-shape"),
    ],
)
async def test_wrong_tensors_are_refused_before_they_are_queued(
    settings: Settings, repository: Path, inputs: dict[str, Tensor], code: str
) -> None:
    async with serving(settings, preload=("tiny-adder",)) as backend:
        problem = await refusal(backend, "tiny-adder", inputs)
        assert (problem.kind, problem.code) == (Kind.INVALID, code)
        assert problem.remedy
        statistics = backend.statistics("tiny-adder", "1")
        assert (statistics.fail_count, statistics.execution_count) == (1, 0)


async def test_values_that_break_the_model_fail_their_own_request_only(settings: Settings, repository: Path) -> None:
    async with serving(settings) as backend:

        def text(token: int) -> dict[str, Tensor]:
            return {"input_ids": np.array([[token]]), "attention_mask": np.ones((1, 1), np.int64)}

        tokens = [1, 2, 10**6, 3]
        requests = (backend.infer("tiny-text", text(token)) for token in tokens)
        good, also_good, bad, last = await asyncio.gather(*requests, return_exceptions=True)
        assert not any(isinstance(one, BaseException) for one in (good, also_good, last))
        assert isinstance(bad, Problem)
        assert (bad.kind, bad.code) == (Kind.INVALID, "tensor-value")
        assert "out of data bounds" in bad.detail


async def test_nan_and_infinity_pass_through(settings: Settings, repository: Path) -> None:
    async with serving(settings) as backend:
        inputs = {"a": np.array([[np.nan, np.inf, -np.inf, 0]], np.float32), "b": np.zeros((1, 4), np.float32)}
        answer = await backend.infer("tiny-adder", inputs)
        np.testing.assert_array_equal(answer.outputs["sum"], inputs["a"])


async def test_every_datatype_comes_back_as_it_went_in(settings: Settings, repository: Path) -> None:
    async with serving(settings) as backend:
        inputs: dict[str, Tensor] = {}
        for spec in (await backend.resolve("tiny-echo")).card.inputs:
            if spec.datatype == "BYTES":
                inputs[spec.name] = np.array([[b"", "é".encode(), b"a\0b"]], object)
            else:
                inputs[spec.name] = np.array([[0, 1, 1]]).astype(
                    {"FP": "float", "IN": "int", "UI": "uint", "BO": "bool"}[spec.datatype[:2]]
                    + spec.datatype.lstrip("FPINTUBOL")
                )
        first, second = await asyncio.gather(backend.infer("tiny-echo", inputs), backend.infer("tiny-echo", inputs))
        for answer in (first, second):
            assert len(answer.outputs) == 13
            for name, array in answer.outputs.items():
                sent = inputs[name.replace("out_", "in_")]
                assert array.dtype == sent.dtype
                assert array.tolist() == sent.tolist()


async def test_text_that_is_not_utf8_is_refused(settings: Settings, repository: Path) -> None:
    tiny_models.add_echo(settings.models_dir, "texts", ("BYTES",))
    async with serving(settings) as backend:
        problem = await refusal(backend, "texts", {"in_bytes": np.array([[b"\xff"]], object)})
        assert problem.code == "tensor-value"


async def test_passed_deadline_is_refused_without_running(settings: Settings, repository: Path) -> None:
    async with serving(settings) as backend:
        problem = await refusal(backend, "tiny-adder", ones(), options=Options.within(-1))
        assert problem.kind is Kind.DEADLINE
        assert backend.statistics("tiny-adder", "1").execution_count == 0


async def test_model_without_a_batch_axis_runs_request_by_request(settings: Settings) -> None:
    model = tiny_models.adder("INT64")
    specs = [spec.model_copy(update={"shape": (2, 4)}) for spec in tiny_models.specs(model)[0]]
    card = tiny_models.card("fixed", model, inputs=tuple(specs))
    tiny_models.write(settings.models_dir, card, {"model.onnx": model})
    async with serving(settings) as backend:
        inputs = {"a": np.ones((2, 4), np.int64), "b": np.ones((2, 4), np.int64)}
        answers = await asyncio.gather(*(backend.infer("fixed", inputs) for _ in range(3)))
        assert all(answer.outputs["sum"].tolist() == [[2] * 4] * 2 for answer in answers)
        assert backend.statistics("fixed", "1").batch_counts == {1: 3}


async def test_item_above_the_models_element_limit_is_refused(settings: Settings) -> None:
    model = tiny_models.classifier(size=None)
    card = tiny_models.card("any-size", model, batching=Batching(max_elements=3 * 64 * 64))
    tiny_models.write(settings.models_dir, card, {"model.onnx": model})
    async with serving(settings) as backend:
        await backend.infer("any-size", {"image": np.zeros((3, 3, 64, 64), np.float32)})
        assert backend.statistics("any-size", "1").batch_counts == {1: 3}
        problem = await refusal(backend, "any-size", {"image": np.zeros((1, 3, 64, 65), np.float32)})
        assert problem.code == "tensor-shape"


# Versions


async def test_latest_version_answers_and_a_specific_one_can_be_asked_for(settings: Settings) -> None:
    for version in ("1", "2", "10"):
        tiny_models.add_adder(settings.models_dir, version=version, offset=int(version))
    async with serving(settings) as backend:
        assert states(backend, "tiny-adder") == {"1": "UNAVAILABLE", "2": "UNAVAILABLE", "10": "READY"}
        assert (await backend.infer("tiny-adder", ones())).outputs["sum"][0, 0] == 12
        assert (await refusal(backend, "tiny-adder", ones(), version="1")).code == "model-not-ready"
        assert (await refusal(backend, "tiny-adder", ones(), version="7")).code == "version-not-found"
        await backend.load("tiny-adder", VersionPolicy("specific", versions=("1", "2")))
        await asyncio.sleep(0.01)
        assert states(backend, "tiny-adder") == {"1": "READY", "2": "READY", "10": "UNAVAILABLE"}
        answer = await backend.infer("tiny-adder", ones())
        assert (answer.version, answer.outputs["sum"][0, 0]) == ("2", 4)
        assert (await backend.infer("tiny-adder", ones(), version="1")).outputs["sum"][0, 0] == 3
        await backend.load("tiny-adder")  # the policy stays until another is given
        assert states(backend, "tiny-adder")["10"] == "UNAVAILABLE"
        await backend.load("tiny-adder", VersionPolicy("all"))
        assert set(states(backend, "tiny-adder").values()) == {"READY"}
        with pytest.raises(Problem) as caught:
            await backend.load("tiny-adder", VersionPolicy("specific", versions=("3",)))
        assert caught.value.code == "version-not-found"


async def test_loads_and_unloads_survive_a_restart(settings: Settings, repository: Path) -> None:
    tiny_models.add_adder(settings.models_dir, version="2", offset=1)
    async with serving(settings) as backend:
        await backend.unload("tiny-text")
        await backend.load("tiny-adder", VersionPolicy("specific", versions=("1",)))
    async with serving(settings) as backend:
        assert states(backend, "tiny-text") == {"1": "UNAVAILABLE"}
        assert states(backend, "tiny-adder") == {"1": "READY", "2": "UNAVAILABLE"}
    async with serving(settings, preload=()) as backend:
        assert states(backend, "tiny-adder") == {"1": "READY", "2": "UNAVAILABLE"}
        assert states(backend, "tiny-echo") == {"1": "UNAVAILABLE"}


async def test_requests_finish_on_the_version_they_started_on(settings: Settings) -> None:
    batching = Batching(max_batch_size=8, max_delay_us=150_000)
    tiny_models.add_adder(settings.models_dir, batching=batching)
    async with serving(settings) as backend:
        early = asyncio.create_task(backend.infer("tiny-adder", ones()))
        await asyncio.sleep(0.01)
        tiny_models.add_adder(settings.models_dir, version="2", offset=5, batching=batching)
        await backend.load("tiny-adder")
        late = await backend.infer("tiny-adder", ones())
        assert ((await early).version, float((await early).outputs["sum"][0, 0])) == ("1", 2.0)
        assert (late.version, float(late.outputs["sum"][0, 0])) == ("2", 7.0)


async def test_reload_under_traffic_fails_no_request(settings: Settings) -> None:
    tiny_models.add_adder(settings.models_dir)
    async with serving(settings) as backend:
        seen: list[tuple[str, float]] = []
        stop = False

        async def client() -> None:
            while not stop:
                answer = await backend.infer("tiny-adder", ones())
                seen.append((answer.version, float(answer.outputs["sum"][0, 0])))
                await asyncio.sleep(0)

        clients = [asyncio.create_task(client()) for _ in range(8)]
        for version in range(2, 7):
            tiny_models.add_adder(settings.models_dir, version=str(version), offset=version)
            await backend.load("tiny-adder")
            await asyncio.sleep(0.02)
        stop = True
        await asyncio.gather(*clients)
        assert {version for version, _ in seen} == {"1", "2", "3", "4", "5", "6"}
        assert all(total == 2 + (int(version) if version != "1" else 0) for version, total in seen)


async def test_unload_waits_for_what_was_begun_and_refuses_the_rest(settings: Settings) -> None:
    _add_slow(settings.models_dir)
    x: dict[str, Tensor] = {"x": np.ones((1, 64), np.float32)}
    async with serving(settings) as backend:
        begun = [asyncio.create_task(backend.infer("slow", x)) for _ in range(2)]
        await asyncio.sleep(0.01)
        unloading = asyncio.create_task(backend.unload("slow"))
        while backend.ready("slow"):  # noqa: ASYNC110 - until the state is on the disk
            await asyncio.sleep(0)
        assert states(backend, "slow") == {"1": "UNLOADING"}
        assert (await refusal(backend, "slow", x)).detail == "Model 'slow': unloaded on request."
        await unloading
        await asyncio.sleep(0.001)
        assert all(task.done() and task.result().outputs["y"].shape == (1, 64) for task in begun)
        assert states(backend, "slow") == {"1": "UNAVAILABLE"}


async def test_unloaded_model_gives_its_memory_back_at_once(settings: Settings, repository: Path) -> None:
    async with serving(settings) as backend:
        gc.collect()
        gc.disable()
        try:
            session = weakref.ref(backend._find("tiny-adder", None).session)  # type: ignore[union-attr]
            await backend.infer("tiny-adder", ones())
            await backend.unload("tiny-adder")
            assert session() is None
        finally:
            gc.enable()


@pytest.mark.parametrize("damage", ["hash", "card", "model", "signature", "missing"])
async def test_failed_load_keeps_the_old_version_serving(settings: Settings, damage: str) -> None:
    tiny_models.add_adder(settings.models_dir)
    async with serving(settings) as backend:
        if damage == "model":
            card = tiny_models.card("tiny-adder", tiny_models.adder(), version="2")
            tiny_models.write(settings.models_dir, card, {"model.onnx": b"no model at all"})
        elif damage == "signature":
            card = tiny_models.card("tiny-adder", tiny_models.adder("INT32"), version="2")
            tiny_models.write(settings.models_dir, card, {"model.onnx": tiny_models.adder("FP32")})
        elif damage == "missing":
            card = tiny_models.card("tiny-adder", tiny_models.adder(), version="2")
            tiny_models.write(settings.models_dir, card, {"other.onnx": tiny_models.adder()})
        else:
            folder = tiny_models.add_adder(settings.models_dir, version="2", offset=1)
            broken = folder / ("card.json" if damage == "card" else "model.onnx")
            broken.write_bytes(broken.read_bytes()[:-1])
        with pytest.raises(Problem) as caught:
            await backend.load("tiny-adder")
        assert caught.value.code == ("model-damaged" if damage == "hash" else "model-invalid")
        assert str(settings.data_dir) not in caught.value.detail
        assert "tiny-adder/2" in caught.value.detail
        assert states(backend, "tiny-adder") == {"1": "READY", "2": "UNAVAILABLE"}
        assert (await backend.infer("tiny-adder", ones())).version == "1"


async def test_broken_model_does_not_keep_the_others_from_starting(settings: Settings, repository: Path) -> None:
    (repository / "tiny-text/1/model.onnx").write_bytes(b"")
    async with serving(settings) as backend:
        (broken,) = [status for status in backend.index() if status.name == "tiny-text"]
        assert (broken.state, broken.card is not None) == ("UNAVAILABLE", True)
        assert "sha256" in broken.reason
        await backend.infer("tiny-adder", ones())


async def test_load_of_what_is_loaded_already_changes_nothing(settings: Settings, repository: Path) -> None:
    async with serving(settings) as backend:
        await backend.infer("tiny-adder", ones())
        await backend.load("tiny-adder")
        assert backend.statistics("tiny-adder", "1").success_count == 1


async def test_model_removed_from_disk_is_served_until_it_is_unloaded(settings: Settings, repository: Path) -> None:
    async with serving(settings) as backend:
        shutil.rmtree(repository / "tiny-adder")
        await backend.infer("tiny-adder", ones())
        assert states(backend, "tiny-adder") == {"1": "READY"}
        await backend.unload("tiny-adder")
        assert (await refusal(backend, "tiny-adder", ones())).code == "model-not-found"


@pytest.mark.parametrize("name", ["missing", "../tiny-adder", "", "x\0", "tiny-adder/1"])
async def test_unknown_names_are_not_found_and_leave_no_trace(settings: Settings, repository: Path, name: str) -> None:
    async with serving(settings) as backend:
        assert (await refusal(backend, name, ones())).code == "model-not-found"
        for call in (backend.load(name), backend.unload(name)):
            with pytest.raises(Problem) as caught:
                await call
            assert caught.value.code == "model-not-found"
        with pytest.raises(Problem):
            await backend.resolve(name)
        assert not backend.ready(name)
        assert name not in backend._library.models


# Pipelines


def _add_pipeline(root: Path) -> None:
    pipeline = Pipeline(kind="zero-shot", image_model="tiny-classifier", text_model="tiny-text")
    tiny_models.write(root, tiny_models.card("piped", pipeline=pipeline, task="zero-shot-classify"), {})


async def test_pipeline_is_ready_when_its_components_are(settings: Settings, repository: Path) -> None:
    _add_pipeline(repository)
    async with serving(settings) as backend:
        assert backend.ready("piped")
        assert (await backend.resolve("piped")).card.pipeline is not None
        problem = await refusal(backend, "piped", {})
        assert (problem.kind, problem.code) == (Kind.INVALID, "model-is-pipeline")
        assert backend.statistics("piped", "1").success_count == 0
        await backend.unload("tiny-text")
        assert not backend.ready("piped")
        (status,) = [status for status in backend.index() if status.name == "piped"]
        assert (status.state, "tiny-text" in status.reason) == ("UNAVAILABLE", True)
        with pytest.raises(Problem, match="tiny-text"):
            await backend.resolve("piped")


async def test_loading_a_pipeline_loads_its_components(settings: Settings, repository: Path) -> None:
    _add_pipeline(repository)
    async with serving(settings, preload=()) as backend:
        assert not backend.ready("piped")
        await backend.load("piped")
        assert backend.ready("piped")
        assert states(backend, "tiny-classifier") == states(backend, "tiny-text") == {"1": "READY"}
        assert states(backend, "tiny-adder") == {"1": "UNAVAILABLE"}
    async with serving(settings, preload=("piped",)) as backend:
        assert backend.ready("piped")


async def test_pipeline_of_a_missing_model_is_refused_by_name(settings: Settings, repository: Path) -> None:
    pipeline = Pipeline(kind="zero-shot", image_model="nowhere")
    tiny_models.write(repository, tiny_models.card("piped", pipeline=pipeline, task="zero-shot-classify"), {})
    async with serving(settings) as backend:
        with pytest.raises(Problem, match="nowhere") as caught:
            await backend.load("piped")
        assert caught.value.code == "model-invalid"


# What is told about the engine


async def test_provider_that_is_asked_for_and_not_there_is_no_silent_fallback(
    settings: Settings, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    providers = ("CUDAExecutionProvider", "CPUExecutionProvider")
    async with serving(settings, providers=providers, preload=("tiny-adder",)) as backend:
        status = next(status for status in backend.index() if status.state == "READY")
        assert status.providers == ("CPUExecutionProvider",)
        assert "CUDAExecutionProvider was asked for and is not in use" in status.reason
        assert any(record.levelname == "ERROR" and "CUDA" in record.message for record in caplog.records)


class Watcher:
    def __init__(self) -> None:
        self.batches: list[tuple[str, str, int]] = []
        self.rejected: list[tuple[str, str]] = []

    def on_batch(self, model: str, version: str, size: int, queue_seconds: float, infer_seconds: float) -> None:
        assert queue_seconds >= 0
        assert infer_seconds > 0
        self.batches.append((model, version, size))

    def on_steps(self, model: str, steps: int) -> None:
        """Nothing here runs in the torch worker."""

    def on_rejected(self, model: str, reason: str) -> None:
        self.rejected.append((model, reason))


async def test_observer_is_told_of_batches_and_refusals(settings: Settings, repository: Path) -> None:
    watcher = Watcher()
    backend = OnnxBackend(settings, observer=watcher)
    await backend.start()
    await backend.infer("tiny-adder", ones(2))
    with pytest.raises(Problem):
        await backend.infer("tiny-adder", ones(), options=Options.within(-1))
    await backend.close()
    assert watcher.batches == [("tiny-adder", "1", 2)]
    assert watcher.rejected == [("tiny-adder", "deadline")]


async def test_slow_model_leaves_the_event_loop_free(settings: Settings) -> None:
    _add_slow(settings.models_dir)
    async with serving(settings) as backend:
        running = asyncio.create_task(backend.infer("slow", {"x": np.ones((1, 64), np.float32)}))
        turns = 0
        while not running.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert (await running).infer_seconds > 0.01
        assert turns > 3


async def test_close_refuses_what_waits_and_finishes_what_runs(settings: Settings) -> None:
    _add_slow(settings.models_dir)
    backend = OnnxBackend(settings)
    await backend.start()
    tasks = [asyncio.create_task(backend.infer("slow", {"x": np.ones((1, 64), np.float32)})) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert backend.statistics("slow", "1").pending == 2
    await backend.close()
    first, *waiting = await asyncio.gather(*tasks, return_exceptions=True)
    assert not isinstance(first, BaseException)
    assert [problem.code for problem in waiting if isinstance(problem, Problem)] == ["model-closing"] * 2


async def test_state_that_cannot_be_read_is_ignored(settings: Settings, repository: Path) -> None:
    (settings.data_dir / "control.json").write_text(json.dumps({"models": {"tiny-text": {"loaded": 7}}}))
    async with serving(settings) as backend:
        assert states(backend, "tiny-text") == {"1": "READY"}
