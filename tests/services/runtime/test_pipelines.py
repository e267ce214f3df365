"""A pipeline and its parts are one set: opened together, switched together, and never mixed in an answer."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.catalog.card import Pipeline, TextPreprocess
from services.classification import Classification, ClassifyRequest
from services.embedding import Embedding
from services.errors import Problem
from services.media.image import Picture
from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import ModelHandle, Options
from services.settings import Settings
from services.stages import Stages
from tests.support import tiny_models

IMAGE, TEXT, PAIR = "set-image", "set-text", "set"
LABELS = ["red cat", "old car", "a fish"]


def write_image(root: Path, version: int) -> None:
    tiny_models.add_classifier(root, IMAGE, seed=version, version=str(version))


def write_text(root: Path, version: int) -> None:
    tower = tiny_models.text_encoder(dim=tiny_models.FEATURES, seed=version)
    card = tiny_models.card(
        TEXT,
        tower,
        version=str(version),
        task="embed-text",
        text=TextPreprocess(max_length=32),
        roles={"embedding": "embedding"},
    )
    tiny_models.write(root, card, {"model.onnx": tower, "tokenizer.json": tiny_models.tokenizer()})


def write_pair(root: Path, version: int, *, pinned: bool = True) -> None:
    at = f"@{version}" if pinned else ""
    pipeline = Pipeline(
        kind="dual-encoder",
        parts={"image": f"{IMAGE}{at}", "text": f"{TEXT}{at}"},
        parameters={"scale": 20.0, "templates": ["{}"]},
    )
    card = tiny_models.card(PAIR, version=str(version), task="zero-shot-classify", pipeline=pipeline)
    tiny_models.write(root, card, {})


def write_set(root: Path, version: int) -> None:
    write_image(root, version)
    write_text(root, version)
    write_pair(root, version)


@asynccontextmanager
async def serving(settings: Settings, *preload: str) -> AsyncIterator[OnnxBackend]:
    backend = OnnxBackend(settings.model_copy(update={"preload": preload or ("*",)}))
    await backend.start()
    try:
        yield backend
    finally:
        await backend.close()


def picture() -> Picture:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    return Picture(Image.fromarray(pixels), 48, 40, "PNG")


async def scores(service: Classification, model: ModelHandle, labels: list[str] | None = None) -> dict[str, float]:
    request = ClassifyRequest([picture()], labels=labels or LABELS)
    answer = await service.classify(model, request, Options.within(30), Stages())
    return {one.label: one.score for one in answer.results[0].predictions}


async def expected(settings: Settings, tmp_path: Path, versions: range) -> dict[str, dict[str, float]]:
    """What each set answers when it is all that there is."""
    found = {}
    for version in versions:
        alone = settings.model_copy(update={"data_dir": tmp_path / f"alone-{version}"})
        write_set(alone.models_dir, version)
        async with serving(alone) as backend:
            found[str(version)] = await scores(Classification(backend, alone), await backend.resolve(PAIR))
    return found


async def test_parts_loaded_one_after_another_are_switched_together(settings: Settings, tmp_path: Path) -> None:
    """As a repeated pre-training does: image tower, text tower, then what joins them."""
    alone = await expected(settings, tmp_path, range(1, 3))
    assert alone["1"] != alone["2"]
    write_set(settings.models_dir, 1)
    async with serving(settings) as backend:
        service = Classification(backend, settings)
        write_set(settings.models_dir, 2)
        for name, now in ((IMAGE, "1"), (TEXT, "1"), (PAIR, "2")):
            await backend.load(name)
            model = await backend.resolve(PAIR)
            assert await scores(service, model) == alone[now]
            more = await scores(service, model, [*LABELS, f"after {name}"])  # these are in no cache
            total = sum(more[label] for label in LABELS)
            assert {label: more[label] / total for label in LABELS} == pytest.approx(alone[now], rel=1e-4)


async def test_cards_without_versions_take_the_newest_parts_together_when_they_are_loaded(settings: Settings) -> None:
    write_image(settings.models_dir, 1)
    write_text(settings.models_dir, 1)
    write_pair(settings.models_dir, 1, pinned=False)
    async with serving(settings) as backend:
        write_image(settings.models_dir, 2)
        write_text(settings.models_dir, 2)
        for name, parts in ((IMAGE, ("1", "1")), (TEXT, ("1", "1")), (PAIR, ("2", "2"))):
            await backend.load(name)
            model = await backend.resolve(PAIR)
            assert (model.parts["image"].card.version, model.parts["text"].card.version) == parts


async def test_a_pinned_part_is_open_as_long_as_a_pipeline_has_it_and_no_longer(settings: Settings) -> None:
    write_set(settings.models_dir, 1)
    async with serving(settings) as backend:
        write_set(settings.models_dir, 2)
        await backend.load(IMAGE)
        assert (await backend.resolve(IMAGE)).card.version == "2"
        old = await backend.resolve(IMAGE, "1")  # by its number it answers too
        assert old is (await backend.resolve(PAIR)).parts["image"]
        assert {one.version: one.state for one in backend.index() if one.name == IMAGE} == {"1": "READY", "2": "READY"}
        await backend.load(TEXT)
        await backend.load(PAIR)
        with pytest.raises(Problem, match="version 1 is not among"):
            await backend.resolve(IMAGE, "1")
        await asyncio.sleep(0.05)
        with pytest.raises(Problem, match="another version"):
            await old.infer({"image": np.zeros((1, 3, 32, 32), np.float32)})


async def test_a_pipeline_opens_the_versions_that_it_names_and_not_the_newest(settings: Settings) -> None:
    for version in (1, 2):
        write_set(settings.models_dir, version)
    shutil.rmtree(settings.models_dir / PAIR / "2")
    async with serving(settings, PAIR) as backend:
        model = await backend.resolve(PAIR)
        assert [part.card.version for part in model.parts.values()] == ["1", "1"]
        assert (await backend.resolve(IMAGE)).card.version == "2"


async def test_a_version_that_is_missing_is_named(settings: Settings) -> None:
    write_set(settings.models_dir, 1)
    write_pair(settings.models_dir, 3)
    async with serving(settings, IMAGE) as backend:
        with pytest.raises(Problem, match="set-image@3") as caught:
            await backend.load(PAIR)
        assert caught.value.code == "model-invalid"


async def test_a_part_taken_out_of_service_takes_its_pipeline_with_it_until_it_is_back(settings: Settings) -> None:
    write_set(settings.models_dir, 1)
    async with serving(settings) as backend:
        await backend.unload(TEXT)
        with pytest.raises(Problem, match="component 'set-text' is not ready"):
            await backend.resolve(PAIR)
        await backend.load(TEXT)
        assert len(await scores(Classification(backend, settings), await backend.resolve(PAIR))) == len(LABELS)
    async with serving(settings) as backend:
        await backend.unload(TEXT)
    async with serving(settings) as backend:  # it stays out
        assert not backend.ready(PAIR)
        await backend.load(TEXT)
        assert backend.ready(PAIR)


async def test_a_request_keeps_the_set_that_it_began_with(settings: Settings) -> None:
    write_set(settings.models_dir, 1)
    async with serving(settings) as backend:
        service = Classification(backend, settings)
        with await backend.resolve(PAIR) as model:
            begun = await scores(service, model)
            write_set(settings.models_dir, 2)
            for name in (IMAGE, TEXT, PAIR):
                await backend.load(name)
            assert (await backend.resolve(PAIR)).card.version == "2"
            unloading = [asyncio.create_task(backend.unload(name)) for name in (PAIR, IMAGE, TEXT)]
            await asyncio.sleep(0.05)
            fresh = await scores(service, model, [*LABELS, "dog"])  # runs both towers
            assert await scores(service, model) == begun
            assert len(fresh) == 4
        await asyncio.gather(*unloading)


async def test_answers_never_mix_generations_while_sets_are_swapped_under_load(
    settings: Settings, tmp_path: Path
) -> None:
    last = 7
    alone = await expected(settings, tmp_path, range(1, last + 1))
    write_set(settings.models_dir, 1)
    async with serving(settings) as backend:
        service, embedding = Classification(backend, settings), Embedding()
        done, seen = False, set()

        async def client() -> None:
            while not done:
                with await backend.resolve(PAIR) as model:
                    request = ClassifyRequest([picture()], labels=LABELS)
                    await asyncio.sleep(0)  # as a request that reads its body
                    answer = await service.classify(model, request, Options.within(30), Stages())
                    found = {one.label: one.score for one in answer.results[0].predictions}
                    assert found == pytest.approx(alone[answer.version], abs=1e-6)
                    images = await embedding.images(model, [picture()], None, Options.within(30), Stages())
                    texts = await embedding.texts(model, LABELS, None, Options.within(30), Stages())
                    assert (images.version, texts.version) == (answer.version, answer.version)
                    logits = 20 * (images.vectors @ texts.vectors.T)[0]
                    again = np.exp(logits) / np.exp(logits).sum()
                    assert dict(zip(LABELS, again, strict=True)) == pytest.approx(found, abs=1e-4)
                    seen.add(answer.version)

        clients = [asyncio.create_task(client()) for _ in range(6)]
        for version in range(2, last + 1):
            write_set(settings.models_dir, version)
            for name in (IMAGE, TEXT, PAIR):
                await backend.load(name)
                await asyncio.sleep(0.02)
        done = True
        await asyncio.gather(*clients)
        assert len(seen) > 2 and str(last) in seen
