"""Rows are predicted from meanings, subsumed classes vote, scores do not depend on how pictures are batched."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image
from safetensors.numpy import save

from models.catalog.card import Pipeline
from services.classification import Classification, ClassifyRequest
from services.classification import weight_prediction as module
from services.classification.weight_prediction import Predictor
from services.classification.zero_shot import FeatureRows, open_zero_shot
from services.encoding import meanings
from services.encoding.images import unit
from services.encoding.texts import TextEncoder
from services.errors import Kind, Problem
from services.media.image import Picture
from services.runtime.loaded import LoadedPipeline
from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import Options
from services.stages import Stages
from tests.support import tiny_models, tiny_nouns

FEATURES, TEXTS = 10, 16
RNG = np.random.default_rng(1)
WEIGHT = RNG.standard_normal((5, FEATURES)).astype(np.float32)
CLASS_TEXTS = unit(RNG.standard_normal((5, TEXTS)).astype(np.float32))


def predictor(**changes):
    return Predictor(tiny_nouns.fitted(WEIGHT, CLASS_TEXTS, **changes), {**tiny_nouns.FITTED, **changes})


def texts(count, seed=3):
    return unit(np.random.default_rng(seed).standard_normal((count, TEXTS)).astype(np.float32))


def pictures(count, seed=5):
    features = np.abs(np.random.default_rng(seed).standard_normal((count, FEATURES))).astype(np.float32)
    return features, features @ WEIGHT.T, np.full(count, 64, np.float32)


def class_cosines(features):
    centred = WEIGHT - WEIGHT.mean(axis=0)
    return unit(features) @ unit(centred).T


def test_the_name_of_a_class_gets_nearly_its_own_row():
    features, logits, sides = class_pictures = pictures(40)
    rows = predictor(class_share=0.0).rows(tiny_nouns.CLASSES, CLASS_TEXTS)
    evidence = predictor(class_share=0.0).evidence(*class_pictures[:2], rows, sides)
    assert np.corrcoef(evidence.cosines.ravel(), class_cosines(features).ravel())[0, 1] > 0.9
    assert logits.shape == evidence.cosines.shape


def test_a_label_that_subsumes_classes_is_scored_by_the_best_of_them():
    features, logits, sides = pictures(6)
    model = predictor(class_share=1.0)
    rows = model.rows(["animal", "car"], texts(2))
    evidence = model.evidence(features, logits, rows, sides)
    cosines = class_cosines(features)
    assert evidence.cosines[:, 0] == pytest.approx(cosines[:, :3].max(axis=1), abs=1e-5)
    assert evidence.cosines[:, 1] == pytest.approx(cosines[:, 4], abs=1e-5)
    assert evidence.others == pytest.approx(np.maximum(cosines[:, 3], 0), abs=1e-5)
    assert evidence.nearest == pytest.approx(cosines.max(axis=1), abs=1e-5)


def test_only_a_label_that_is_such_a_kind_lets_classes_vote():
    rows = predictor().rows(["animal", "red animal", "bat", "qqqq"], texts(4))
    assert [int(row) >= 0 for row in rows[:, -1]] == [True, False, True, False]
    assert tiny_nouns.SYNSETS[int(rows[2, -1])] == "fruit"  # its first sense, and as near as the other


def test_an_unknown_word_is_predicted_from_its_text_alone():
    model = predictor()
    one, other = texts(2)
    same = model.rows(["qqqq", "zzzz"], np.stack([one, one]))
    assert np.array_equal(same[0], same[1])
    assert not np.allclose(model.rows(["qqqq"], other[None])[0], same[0])


def test_pictures_and_labels_do_not_influence_each_other(monkeypatch):
    model = predictor()
    labels = ["animal", "car", "bat", "qqqq", "fruit", "thing"]
    features, logits, sides = pictures(9)
    rows = model.rows(labels, texts(6))
    whole = model.evidence(features, logits, rows, sides)
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 4)
    monkeypatch.setattr(meanings, "_GATHERED_AT_ONCE", 20)
    assert model.rows(labels, texts(6)) == pytest.approx(rows, abs=1e-6)
    assert model.evidence(features, logits, rows, sides).cosines == pytest.approx(whole.cosines, abs=1e-6)
    for index in range(9):
        part = slice(index, index + 1)
        alone = model.evidence(features[part], logits[part], rows, sides[part])
        assert alone.cosines[0] == pytest.approx(whole.cosines[index], abs=1e-6)


def test_a_small_picture_is_corrected_for_its_blur():
    features, _, _ = pictures(4)
    shift = np.ones(FEATURES, np.float32)
    model = predictor()
    rows = model.rows(["animal", "car"], texts(2))

    def cosines(blur, side):
        moved = features + np.float32(blur) * shift
        return model.evidence(moved, moved @ WEIGHT.T, rows, np.full(4, side, np.float32)).cosines

    sharp = cosines(0, 64)
    for blur, side in ((0.2, 16), (0.2, 1), (0.1, 32), (0.15, 16 * 2**0.5), (0, 5000)):
        assert cosines(blur, side) == pytest.approx(sharp, abs=2e-4)


def test_doubt_grows_when_the_pictured_class_is_not_among_the_labels():
    centred = WEIGHT - WEIGHT.mean(axis=0)
    features = centred[:1]  # a picture of nothing but a cat
    model = predictor()
    scored = {
        label: model.score(features, features @ WEIGHT.T, model.rows([label], texts(1)), np.array([64], np.float32))
        for label in ("cat", "car")
    }
    assert scored["cat"].none[0] < 0.5 < scored["car"].none[0]
    assert scored["cat"].independent[0, 0] > scored["car"].independent[0, 0]


def test_feature_rows_point_at_what_the_label_shows():
    model = predictor()
    directions = model.feature_rows(model.rows(["animal", "apple", "car"], texts(3)))
    assert np.linalg.norm(directions, axis=1) == pytest.approx(1, abs=1e-5)
    rows = unit(WEIGHT - WEIGHT.mean(axis=0))
    assert (directions @ rows.T)[1].argmax() == 3
    assert (directions @ rows.T)[2].argmax() == 4


@pytest.fixture
async def backend(settings, repository):
    """The tiny classifier and text encoder with a weight-prediction model over them."""
    held = {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(tiny_models.classifier()).graph.initializer}
    engine = OnnxBackend(settings)
    await engine.start()
    own = unit(await TextEncoder(await engine.resolve("tiny-text")).encode(list(tiny_nouns.CLASSES)))
    pipeline = Pipeline(
        kind="weight-prediction",
        image_model="tiny-classifier",
        text_model="tiny-text",
        data="prediction.safetensors",
        parameters=tiny_nouns.FITTED,
    )
    card = tiny_models.card("tiny-predicted", task="zero-shot-classify", pipeline=pipeline)
    tiny_models.write(repository, card, {"prediction.safetensors": save(tiny_nouns.fitted(held["fc"], own))})
    await engine.load("tiny-predicted")
    yield engine
    await engine.close()


def picture(seed=0):
    return Picture(Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 48, 3), np.uint8)), 48, 48, "PNG")


async def test_it_answers_through_the_service(backend, settings):
    service = Classification(backend, settings)
    labels = ["animal", "motor car", "red apple", "nothing known"]
    request = ClassifyRequest([picture(s) for s in range(3)], labels=labels)
    answer = await service.classify(await backend.resolve("tiny-predicted"), request, Options.within(30), Stages())
    for result in answer.results:
        assert {one.label for one in result.predictions} == set(labels)
        assert sum(one.score for one in result.predictions) == pytest.approx(1, abs=1e-5)
        assert 0 < result.none_of_these < 1


async def test_many_labels_keep_the_event_loop_free_and_give_the_same_rows(backend):
    model = open_zero_shot(await backend.resolve("tiny-predicted"))
    labels = [f"cat {number}" for number in range(200)]
    many = await model.rows(labels, ("{}",), Options.within(30), Stages())
    few = await model.rows(labels[150:160], ("{}",), Options.within(30), Stages())
    assert many[150:160] == pytest.approx(few, abs=1e-5)


async def test_names_of_classes_need_no_text_encoder(backend):
    model = open_zero_shot(await backend.resolve("tiny-predicted"))
    before = backend.statistics("tiny-text", "1").inference_count
    known = await model.rows(tiny_nouns.CLASSES, ("{}",), Options.within(30), Stages())
    assert backend.statistics("tiny-text", "1").inference_count == before
    mixed = await model.rows(["car", "red thing", "cat"], ("{}",), Options.within(30), Stages())
    assert backend.statistics("tiny-text", "1").inference_count == before + 1
    assert mixed[[0, 2]] == pytest.approx(known[[4, 0]])
    spelled = await model.rows(tiny_nouns.CLASSES, (" {} ",), Options.within(30), Stages())
    assert spelled == pytest.approx(known, abs=2e-2)


async def test_arrays_of_another_image_model_are_refused(backend, repository):
    model = await backend.resolve("tiny-predicted")
    card = tiny_models.card("tiny-other", task="zero-shot-classify", pipeline=model.card.pipeline)
    folder = tiny_models.write(
        repository, card, {"prediction.safetensors": save(tiny_nouns.fitted(WEIGHT, CLASS_TEXTS))}
    )
    with pytest.raises(Problem) as caught:
        open_zero_shot(LoadedPipeline(folder, card, model.parts))
    assert caught.value.code == "model-parts-differ"


@pytest.mark.parametrize("content", [None, b"no safetensors"])
async def test_arrays_that_cannot_be_read_are_not_a_bug(backend, tmp_path, content):
    if content is not None:
        (tmp_path / "prediction.safetensors").write_bytes(content)
    with pytest.raises(Problem) as caught:
        model = await backend.resolve("tiny-predicted")
        open_zero_shot(LoadedPipeline(tmp_path, model.card, model.parts))
    assert (caught.value.kind, caught.value.code) == (Kind.UNAVAILABLE, "model-file-unreadable")
    assert str(tmp_path) not in caught.value.detail


async def test_fine_tuning_gets_directions_in_the_features(backend):
    model = open_zero_shot(await backend.resolve("tiny-predicted"))
    assert isinstance(model, FeatureRows)
    rows = await model.feature_rows(["cat", "car"], ("{}",), Options.within(30), Stages())
    assert rows.shape == (2, tiny_models.FEATURES)
