"""Labels of one space with pictures: meanings join texts, known classes vote, blur is taken off."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save

from models.catalog.card import Pipeline
from models.unicl.lite2.export import arrays
from models.zero_shot.nouns import Hierarchy
from services.classification import Classification, ClassifyRequest
from services.classification.zero_shot import FeatureRows, open_zero_shot
from services.embedding import Embedding
from services.encoding.images import unit
from services.encoding.shared_space import SharedSpace
from services.errors import Problem
from services.media.image import Picture
from services.runtime.loaded import LoadedPipeline
from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import Options
from services.stages import Stages
from tests.support import tiny_models, tiny_nouns, tiny_photos

MODEL, _ = tiny_photos.trained()
PARAMETERS = {**tiny_nouns.FITTED, "templates": ["{}"]}


def data(model=MODEL, weight=tiny_photos.WEIGHT):
    nouns = tiny_nouns.nouns()
    classifier = tiny_nouns.classifier(weight, np.zeros((5, 0), np.float32))
    shifts = np.outer([0.2, 0.1, 0.0], np.ones(weight.shape[1])).astype(np.float32)
    return arrays(model, classifier, nouns, Hierarchy(nouns), tiny_nouns.SIDES, shifts)


def space(**changes):
    return SharedSpace(data(), {**PARAMETERS, **changes})


def texts(count, width=4):
    return unit(np.random.default_rng(3).standard_normal((count, width)).astype(np.float32))


def seen(count=6):
    features = np.random.default_rng(5).standard_normal((count, tiny_photos.FEATURES)).astype(np.float32)
    return features @ MODEL.see.detach().numpy(), np.full(count, 64, np.float32)


def class_cosines(embeddings):
    rows = (tiny_photos.WEIGHT - tiny_photos.WEIGHT.mean(axis=0)) @ MODEL.see.detach().numpy()
    return unit(embeddings) @ unit(rows).T


def test_rows_are_those_of_training():
    own, nouns = texts(4), tiny_nouns.nouns()
    labels = ["cat", "apple", "a red car", "qqqq"]
    rows = space().rows(labels, own)
    synsets = [tiny_nouns.SYNSETS.index(name) for name in ("cat", "apple", "car")]
    meanings = torch.from_numpy(nouns.unit_vectors()[[*synsets, 0]])
    with torch.no_grad():
        known = torch.tensor([1.0, 1, 1, 0])
        expected = MODEL.labels(torch.from_numpy(own), MODEL.meaning(meanings), known).numpy()
    assert rows[:, :-1] == pytest.approx(expected, abs=2e-3)
    assert rows[:, -1].tolist() == [*synsets[:2], -1, -1]  # of a red car only the head is a class


def test_a_label_that_subsumes_classes_is_scored_by_the_best_of_them():
    embeddings, sides = seen()
    model = space(class_share=1.0)
    evidence = model.evidence(embeddings, model.rows(["animal", "qqqq"], texts(2)), sides)
    cosines = class_cosines(embeddings)
    assert evidence.cosines[:, 0] == pytest.approx(cosines[:, :3].max(axis=1), abs=2e-3)
    assert evidence.cosines[:, 1] == pytest.approx(unit(embeddings) @ texts(2)[1], abs=1e-5)
    assert evidence.others == pytest.approx(np.maximum(cosines[:, 3:].max(axis=1), 0), abs=2e-3)
    assert evidence.nearest == pytest.approx(cosines.max(axis=1), abs=2e-3)


def test_a_small_picture_is_corrected_for_its_blur():
    embeddings, _ = seen(4)
    shift = np.ones(tiny_photos.FEATURES, np.float32) @ MODEL.see.detach().numpy()
    model = space()
    rows = model.rows(["animal", "car"], texts(2))

    def cosines(blur, side):
        return model.evidence(embeddings + np.float32(blur) * shift, rows, np.full(4, side, np.float32)).cosines

    sharp = cosines(0, 64)
    for blur, side in ((0.2, 16), (0.1, 32), (0, 5000)):
        assert cosines(blur, side) == pytest.approx(sharp, abs=2e-3)
    assert cosines(0.2, 64) != pytest.approx(sharp, abs=2e-3)


def test_many_labels_get_the_same_rows(monkeypatch):
    from services.encoding import shared_space

    labels, own = ["cat", "bat", "qqqq", "animal", "fruit", "car"], texts(6)
    whole = space().rows(labels, own)
    monkeypatch.setattr(shared_space, "_LABELS_AT_ONCE", 2)
    assert space().rows(labels, own) == pytest.approx(whole, abs=1e-6)


@pytest.fixture
async def backend(settings, repository):
    """A tiny image tower (the logits of the classifier) and a tiny text tower, joined by arrays of their width."""
    engine = OnnxBackend(settings)
    await engine.start()
    width = len(tiny_models.LABELS)
    tower = tiny_models.text_encoder(width)
    text = (await engine.resolve("tiny-text")).card.text
    card = tiny_models.card("tiny-tower", tower, task="embed-text", text=text, roles={"embedding": "embedding"})
    tiny_models.write(repository, card, {"model.onnx": tower, "tokenizer.json": tiny_models.tokenizer()})
    seen = (await engine.resolve("tiny-classifier")).card
    towers = {"tiny-seen": seen.model_copy(update={"name": "tiny-seen", "roles": {"embedding": "logits"}, "files": {}})}
    onnx = ((await engine.resolve("tiny-classifier")).folder / "model.onnx").read_bytes()
    for card in towers.values():
        tiny_models.write(repository, card, {"model.onnx": onnx})
    weight = np.random.default_rng(2).standard_normal((5, width)).astype(np.float32)
    rotation = torch.eye(width)
    model, _ = tiny_photos.trained()
    model.see = torch.nn.Parameter(rotation)
    model.meaning.coefficients = torch.randn(len(model.meaning.anchors), width)
    pipeline = Pipeline(
        kind="knowing-dual-encoder", image_model="tiny-seen", text_model="tiny-tower", data="meanings.safetensors",
        parameters=PARAMETERS,
    )  # fmt: skip
    card = tiny_models.card("tiny-knowing", task="zero-shot-classify", pipeline=pipeline)
    tiny_models.write(repository, card, {"meanings.safetensors": save(data(model, weight))})
    for name in ("tiny-tower", "tiny-seen", "tiny-knowing"):
        await engine.load(name)
    yield engine
    await engine.close()


def picture(seed=0):
    return Picture(Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 48, 3), np.uint8)), 48, 48, "PNG")


async def test_it_answers_through_the_service(backend, settings):
    labels = ["animal", "motor car", "red apple", "nothing known"]
    request = ClassifyRequest([picture(s) for s in range(3)], labels=labels)
    service, model = Classification(backend, settings), await backend.resolve("tiny-knowing")
    answer = await service.classify(model, request, Options.within(30), Stages())
    for result in answer.results:
        assert {one.label for one in result.predictions} == set(labels)
        assert sum(one.score for one in result.predictions) == pytest.approx(1, abs=1e-5)
        assert 0 < result.none_of_these < 1


async def test_both_sides_embed_into_its_space(backend):
    service, model = Embedding(), await backend.resolve("tiny-knowing")
    texts = await service.texts(model, ["a cat", "fog"], None, Options.within(30), Stages())
    images = await service.images(model, [picture()], None, Options.within(30), Stages())
    assert texts.vectors.shape == (2, len(tiny_models.LABELS)) and images.vectors.shape == (1, len(tiny_models.LABELS))


async def test_its_rows_start_a_classifier(backend):
    model = open_zero_shot(await backend.resolve("tiny-knowing"))
    assert isinstance(model, FeatureRows)
    rows = await model.feature_rows([f"cat {n}" for n in range(40)], ("{}",), Options.within(30), Stages())
    assert rows.shape == (40, len(tiny_models.LABELS))
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)


async def test_towers_of_another_width_are_refused(backend, repository):
    model = await backend.resolve("tiny-knowing")
    card = tiny_models.card("tiny-other", task="zero-shot-classify", pipeline=model.card.pipeline)
    parts = {**model.parts, "text": await backend.resolve("tiny-text")}
    folder = tiny_models.write(repository, card, {"meanings.safetensors": save(data())})
    with pytest.raises(Problem) as caught:
        open_zero_shot(LoadedPipeline(folder, card, parts))
    assert caught.value.code == "model-parts-differ"


async def test_a_torn_file_of_arrays_is_named(backend, repository):
    model = await backend.resolve("tiny-knowing")
    card = tiny_models.card("tiny-torn", task="zero-shot-classify", pipeline=model.card.pipeline)
    folder = tiny_models.write(repository, card, {"meanings.safetensors": b"torn"})
    with pytest.raises(Problem) as caught:
        open_zero_shot(LoadedPipeline(folder, card, model.parts))
    assert "meanings.safetensors" in caught.value.detail
