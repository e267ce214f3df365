import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from models.catalog.card import Batching, Card, TextPreprocess
from services.encoding.cache import ArrayCache
from services.encoding.texts import TextEncoder
from services.errors import Kind, Problem
from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import Inference, Options
from services.settings import Settings
from services.stages import Stages
from services.text.tokenizer import Tokenizer
from tests.support import tiny_models

TEXTS = ["cat", "a photo of the old red dog", "", "a fish", "car " * 40, "dog", "an apple, red", "cat"] * 5


class Recorder:
    """A model that answers with the sums of the ids, and keeps what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.card = Card.read(folder)
        self.calls: list[dict[str, np.ndarray]] = []
        self.running = self.most = 0
        self.delay = 0.0
        self.fail_on = -1

    async def infer(
        self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None, options: Options | None = None
    ) -> Inference:
        self.calls.append(dict(inputs))
        if len(self.calls) == self.fail_on:
            raise Problem(Kind.TOO_MANY, "queue-full", "Full")
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(self.delay)
        self.running -= 1
        ids = inputs["input_ids"] * inputs["attention_mask"]
        rows = np.stack([ids.sum(1), (ids**2).sum(1)], -1).astype(np.float16)
        return Inference({"embedding": rows}, "1", queue_seconds=0.5, infer_seconds=0.25, batch_size=len(rows))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_models.add_text_encoder(tmp_path, batching=Batching(max_batch_size=4))


@pytest.fixture
def recorder(folder: Path) -> Recorder:
    return Recorder(folder)


@pytest.fixture
async def backend(settings: Settings) -> AsyncIterator[OnnxBackend]:
    tiny_models.add_text_encoder(settings.models_dir, batching=Batching(max_batch_size=4))
    tiny_models.add_classifier(settings.models_dir)
    backend = OnnxBackend(settings)
    await backend.start()
    yield backend
    await backend.close()


async def test_embeddings_come_back_in_the_order_of_the_texts(backend: OnnxBackend):
    encoder = TextEncoder(await backend.resolve("tiny-text"))
    together = await encoder.encode(TEXTS)
    assert together.shape == (len(TEXTS), tiny_models.TEXT_DIM)
    assert together.dtype == np.float32
    for row, text in zip(together[:8], TEXTS[:8], strict=True):
        (alone,) = await encoder.encode([text])
        np.testing.assert_allclose(row, alone, atol=1e-5)


async def test_batches_are_sorted_by_length_bounded_and_few_at_once(recorder: Recorder):
    recorder.delay = 0.001
    await TextEncoder(recorder).encode(TEXTS)
    sizes = [call["input_ids"].shape for call in recorder.calls]
    assert sum(size[0] for size in sizes) == len(TEXTS)
    assert max(size[0] for size in sizes) == 4
    widths = [size[1] for size in sizes]
    assert widths == sorted(widths, reverse=True)
    assert recorder.most == 2


async def test_stages_add_up_what_the_backend_reports(recorder: Recorder):
    stages = Stages()
    await TextEncoder(recorder).encode(["cat"] * 8, stages=stages)
    assert (stages.queue, stages.infer) == (1.0, 0.5)
    assert stages.decode > 0


async def test_answers_of_half_precision_become_float32(recorder: Recorder):
    assert (await TextEncoder(recorder).encode(["cat"])).dtype == np.float32


async def test_ids_have_the_type_that_the_card_says(recorder: Recorder):
    inputs = tuple(spec.model_copy(update={"datatype": "INT32"}) for spec in recorder.card.inputs)
    recorder.card = recorder.card.model_copy(update={"inputs": inputs})
    await TextEncoder(recorder).encode(["cat"])
    assert {array.dtype for array in recorder.calls[0].values()} == {np.dtype(np.int32)}


async def test_the_same_texts_again_cost_nothing(recorder: Recorder):
    encoder = TextEncoder(recorder, ArrayCache(1 << 20))
    first = await encoder.encode(TEXTS)
    calls = len(recorder.calls)
    stages = Stages()
    assert await encoder.encode(list(TEXTS), stages=stages) is first
    assert len(recorder.calls) == calls
    assert stages.infer == 0


async def test_other_texts_order_or_borders_are_other_entries(recorder: Recorder):
    encoder = TextEncoder(recorder, ArrayCache(1 << 20))
    for texts in (["cat", "dog"], ["dog", "cat"], ["catdog"], ["cat", "dog", ""], ["cat dog"], ['cat","dog']):
        calls = len(recorder.calls)
        await encoder.encode(texts)
        assert len(recorder.calls) == calls + 1


@pytest.mark.parametrize("change", [{"files": {"model.onnx": "0" * 64}}, {"text": TextPreprocess(max_length=9)}])
async def test_models_share_a_cache_without_mixing(recorder: Recorder, folder: Path, change: dict[str, object]):
    cache = ArrayCache(1 << 20)
    other = Recorder(folder)
    other.card = other.card.model_copy(update=change)
    await TextEncoder(recorder, cache).encode(["cat"])
    await TextEncoder(other, cache).encode(["cat"])
    assert len(recorder.calls) == len(other.calls) == 1


async def test_the_same_files_under_another_name_or_version_cost_nothing(recorder: Recorder, folder: Path):
    cache = ArrayCache(1 << 20)
    other = Recorder(folder)
    other.card = other.card.model_copy(update={"name": "another-text", "version": "2"})
    first = await TextEncoder(recorder, cache).encode(["cat"])
    assert await TextEncoder(other, cache).encode(["cat"]) is first
    assert not other.calls


async def test_concurrent_requests_for_one_label_set_run_it_once(recorder: Recorder):
    recorder.delay = 0.01
    encoder = TextEncoder(recorder, ArrayCache(1 << 20))
    stages = [Stages() for _ in range(10)]
    await asyncio.gather(*(encoder.encode(["cat", "dog"], stages=s) for s in stages))
    assert len(recorder.calls) == 1
    assert sorted(s.infer for s in stages) == [0.0] * 9 + [0.25]
    assert all(s.queue > 0 for s in stages)


async def test_what_was_encoded_before_the_deadline_is_not_encoded_again(recorder: Recorder):
    encoder = TextEncoder(recorder, ArrayCache(1 << 20))
    texts = [f"cat {number}" for number in range(600)]  # three entries of the cache, in 150 batches
    recorder.fail_on = 140
    with pytest.raises(Problem):
        await encoder.encode(texts)
    tried = len(recorder.calls)
    rows = await encoder.encode(texts)
    assert len(recorder.calls) - tried == 22  # the last 88 texts, in batches of 4
    np.testing.assert_array_equal(rows, await TextEncoder(recorder).encode(texts))


async def test_without_a_cache_nothing_is_kept(recorder: Recorder):
    encoder = TextEncoder(recorder)
    await encoder.encode(["cat"])
    await encoder.encode(["cat"])
    assert len(recorder.calls) == 2


async def test_one_failed_batch_fails_the_request_and_stops_the_rest(recorder: Recorder):
    recorder.fail_on, recorder.delay = 2, 0.005
    with pytest.raises(Problem) as caught:
        await TextEncoder(recorder).encode(TEXTS)
    assert caught.value.code == "queue-full"
    await asyncio.sleep(0.05)
    assert len(recorder.calls) <= 3


async def test_tokens_are_counted_as_the_model_sees_them(recorder: Recorder, folder: Path):
    encoder = TextEncoder(recorder)
    tokenizer = Tokenizer(folder, recorder.card.text)
    seen = await encoder.tokenize(TEXTS)
    assert seen.count == tokenizer.tokenize(TEXTS).count == int(tokenizer.encode(TEXTS)["attention_mask"].sum())


async def test_many_texts_do_not_hold_up_the_event_loop(recorder: Recorder):
    encoder = TextEncoder(recorder)
    await encoder.encode(["cat"])
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    ticking = asyncio.create_task(tick())
    begin = time.perf_counter()
    await encoder.tokenize(["a photo of the old red dog " * 20] * 600)
    spent = time.perf_counter() - begin
    ticking.cancel()
    assert ticks > min(5, spent / 0.02)


@pytest.mark.parametrize(
    ("texts", "code"), [([], "no-texts"), (["\ud800"], "text-not-unicode"), (["cat", "\udfff"], "text-not-unicode")]
)
@pytest.mark.parametrize("cache", [None, ArrayCache(1000)])
async def test_bad_texts_are_refused(recorder: Recorder, texts: list[str], code: str, cache: ArrayCache | None):
    with pytest.raises(Problem) as caught:
        await TextEncoder(recorder, cache).encode(texts)
    assert (caught.value.kind, caught.value.code) == (Kind.INVALID, code)


async def test_a_model_without_text_is_refused(backend: OnnxBackend):
    with pytest.raises(Problem) as caught:
        await TextEncoder(await backend.resolve("tiny-classifier")).encode(["cat"])
    assert caught.value.code == "model-embeds-no-text"
    with pytest.raises(Problem) as caught:
        await TextEncoder(await backend.resolve("unknown")).encode(["cat"])
    assert caught.value.kind is Kind.NOT_FOUND


async def test_a_passed_deadline_is_kept(backend: OnnxBackend):
    with pytest.raises(Problem) as caught:
        await TextEncoder(await backend.resolve("tiny-text")).encode(TEXTS, Options(deadline=time.perf_counter() - 1))
    assert caught.value.kind is Kind.DEADLINE
